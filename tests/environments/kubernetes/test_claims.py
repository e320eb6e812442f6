"""What others manage of what we write is named as the API server names it, and handed over field by field."""

from typing import Any

from environments.drivers.kubernetes.api import Claim
from environments.drivers.kubernetes.claims import claims_on, handed_over, is_of_image

ELEMENT = 'k:{"name":"web"}'
VARIABLE = 'k:{"name":"ADDED"}'
WEB: dict[str, Any] = {".": {}, "f:name": {}}


def entry(manager: str, pod: dict[str, Any], operation: str = "Update", version: str = "apps/v1") -> dict[str, Any]:
    """One of `managedFields`."""
    fields = {"f:spec": {"f:template": {"f:spec": pod}}}
    return {"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1",
            "fieldsV1": fields}  # fmt: skip


def deployment(*entries: dict[str, Any], **container: Any) -> dict[str, Any]:
    """Whose only container is web."""
    spec = {"template": {"spec": {"containers": [{"name": "web", **container}]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"managedFields": list(entries)}, "spec": spec}


OURS = entry("controlplane", {"f:containers": {ELEMENT: WEB}}, "Apply")
WANTED = deployment(image="b", resources={"limits": {"cpu": "1000m"}})


def in_web(**fields: Any) -> dict[str, Any]:
    """Of the container."""
    return {"f:containers": {ELEMENT: {f"f:{name}": below for name, below in fields.items()}}}


def test_only_what_we_write_and_what_differs_is_claimed() -> None:
    theirs = entry("kubectl-set", {**in_web(image={}, tty={}), "f:hostNetwork": {}})
    image = Claim('spec.template.spec.containers[name="web"].image', "kubectl-set")
    assert claims_on(deployment(OURS, theirs, image="a", tty=True), WANTED) == [image]
    assert is_of_image(image)
    assert claims_on(deployment(OURS, theirs, image="b", tty=True), WANTED) == []


def test_ours_are_none_and_another_version_of_the_api_cannot_be_read() -> None:
    ours = entry("controlplane-mark", in_web(image={}), "Apply")
    other = entry("old", in_web(image={}), version="apps/v1beta1")
    assert claims_on(deployment(ours, other, image="a"), WANTED) == []


def test_an_amount_that_is_written_otherwise_is_in_the_way_too() -> None:
    theirs = entry("argocd", in_web(resources={"f:limits": {"f:cpu": {}}}), "Apply")
    found = deployment(OURS, theirs, resources={"limits": {"cpu": "1"}})
    assert [one.field for one in claims_on(found, WANTED)] == [
        'spec.template.spec.containers[name="web"].resources.limits.cpu'
    ]


def test_variables_count_as_a_whole_and_the_ports_of_a_container_do_not() -> None:
    added: dict[str, Any] = {VARIABLE: {".": {}, "f:name": {}, "f:value": {}}}
    theirs = entry("kubectl-edit", in_web(env=added, ports={'k:{"containerPort":9,"protocol":"TCP"}': {".": {}}}))
    found = deployment(OURS, theirs, env=[{"name": "ADDED", "value": "x"}], ports=[{"containerPort": 9}])
    wanted = deployment(ports=[{"containerPort": 8, "protocol": "TCP"}])
    (claim,) = claims_on(found, wanted)
    assert claim == Claim('spec.template.spec.containers[name="web"].env[name="ADDED"]', "kubectl-edit")
    entries, taken = handed_over(found, [claim])
    assert taken == [claim]
    mine, rest = (one["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"][ELEMENT] for one in entries)
    assert mine == {**WEB, "f:env": added}
    assert rest.keys() == {"f:ports"}


def test_the_marks_that_say_which_image_it_is_belong_to_it() -> None:
    marks: dict[str, Any] = {"f:metadata": {"f:annotations": {"f:controlplane/version": {}, "f:team": {}}}}
    theirs = {**entry("kubectl-rollout", {}), "fieldsV1": {"f:spec": {"f:template": marks}}}
    wanted = {"spec": {"template": {"metadata": {"labels": {"app": "web"}}}}}
    (claim,) = claims_on(deployment(OURS, theirs), wanted)
    assert claim.field == "spec.template.metadata.annotations.controlplane/version"
    assert is_of_image(claim)


def test_what_is_not_named_stays_with_its_manager() -> None:
    found = deployment(OURS, entry("kubectl-set", in_web(image={}, tty={})), entry("helm", in_web(image={})), image="a")
    named = Claim('spec.template.spec.containers[name="web"].image', "kubectl-set")
    entries, taken = handed_over(found, [named, Claim("spec.replicas", "nobody")])
    assert taken == [named]
    assert [(one["manager"], one["fieldsV1"]["f:spec"]["f:template"]["f:spec"]) for one in entries] == [
        ("controlplane", {"f:containers": {ELEMENT: {**WEB, "f:image": {}}}}),
        ("kubectl-set", in_web(tty={})),
        ("helm", in_web(image={})),
    ]
    assert handed_over(deployment(*entries), [named])[1] == []


def test_who_has_nothing_left_is_gone_and_the_count_is_another_managers() -> None:
    scaled = {**entry("kubectl", {}), "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"}
    (left,), taken = handed_over(deployment(scaled), [Claim("spec.replicas", "kubectl")])
    assert taken == [Claim("spec.replicas", "kubectl")]
    assert (left["manager"], left["operation"]) == ("controlplane-count", "Apply")
    assert left["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
