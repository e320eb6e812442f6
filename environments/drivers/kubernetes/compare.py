"""What a Deployment of a cluster is beside what was deployed, and beside the settings.

Only what we write is compared: what the API server filled in, and what others added, is no difference. Values of
variables are never said, nor is anything of a Secret.
"""

from controlplane.operations.plans import digest_of
from environments.drivers.base import Difference, Software, Target
from environments.drivers.kubernetes import manifests
from environments.drivers.kubernetes.api import COUNTING, Claim, Object
from environments.drivers.kubernetes.around import (
    Around,
    around_differs,
    as_compared,
    differences_around,
    wanted_around,
)
from environments.drivers.kubernetes.claims import claims_on
from environments.drivers.kubernetes.fields import held_by, unlike
from environments.drivers.kubernetes.manifests import CONFIGURATION, SHAPE, VARIABLES, marks_of
from environments.drivers.kubernetes.settings import autoscale_of, container_of

NOTHING = "nothing"
NAMED = 3  # fields that are said by name
ANY_IMAGE = "any"  # which one is wanted is known later


def differences(target: Target, found: Object, deployed: Software, around: Around) -> list[Difference]:
    """Image, count, variables and settings, and what stands around it."""
    instance = target.instances[0].name if target.instances else target.service
    image = manifests.container_in(found, container_of(target)).get("image", "")
    differences = []
    if deployed.digest and manifests.digest_of_image(found, container_of(target)) != deployed.digest:
        wanted = f"{deployed.version} {deployed.digest}"
        differences.append(Difference("image", instance, wanted, str(image) or NOTHING))
    count = int(found["spec"].get("replicas", 1))
    least, most = bounds(target)
    if not least <= count <= most and not was_stopped_by_us(found):
        wanted = f"{least} pods" if least == most else f"{least} to {most} pods"
        differences.append(Difference("count", instance, wanted, f"{count} pods"))
    differences += _environment(target, found, instance)
    return [*differences, *differences_around(target, found, around, instance)]


def bounds(target: Target) -> tuple[int, int]:
    """The least and the most pods there may be."""
    scaled = autoscale_of(target)
    return (scaled["min"], scaled["max"]) if scaled else (manifests.replicas(target),) * 2


def was_changed(target: Target, found: Object, around: Around) -> bool:
    """Somebody changed it in the cluster, in what any deployment would put right. What was stopped stays stopped."""
    count = int(found["spec"].get("replicas", 1))
    least, most = bounds(target)
    counted = count == 0 or least <= count <= most
    other = has_other_variables(found, container_of(target)) or bool(other_settings(target, found))
    return not counted or other or bool(around_differs(target, around))


def was_stopped_by_us(found: Object) -> bool:
    """It is scaled to 0 as we left it: by a recovery, whose other site runs meanwhile."""
    return found["spec"].get("replicas", 1) == 0 and "f:replicas" in held_by(found, COUNTING).get("f:spec", {})


def was_stopped_by_others(target: Target, found: Object) -> bool:
    """Somebody scaled to 0 in the cluster what is to run."""
    stopped = found["spec"].get("replicas", 1) == 0
    return stopped and manifests.replicas(target) > 0 and not was_stopped_by_us(found)


def claims(target: Target, found: Object, around: Around) -> list[tuple[str, Claim]]:
    """What others manage of what we write and have otherwise, with the kind of its object; the image in any case."""
    wanted = manifests.deployment(target, ANY_IMAGE, "")
    if autoscale_of(target) is None or was_stopped_by_others(target, found):
        wanted = {**wanted, "spec": {**wanted["spec"], "replicas": manifests.replicas(target)}}
    pairs = [(wanted, found)]
    there = {"Service": around.service, "HorizontalPodAutoscaler": around.scaler}
    pairs += [(one, other) for kind, one in wanted_around(target).items() if (other := there[kind]) is not None]
    return [(one["kind"], claim) for one, other in pairs for claim in claims_on(as_compared(other), as_compared(one))]


def has_other_variables(found: Object, container: str) -> bool:
    """Its variables are not those that were applied."""
    given = manifests.container_in(found, container).get("env") or []
    return manifests.shape_of_variables(given) != marks_of(found["spec"]["template"]).get(VARIABLES)


def other_settings(target: Target, found: Object) -> list[str]:
    """The fields that the settings would have otherwise, by path."""
    return _other_fields(manifests.deployment(target, "", "")["spec"], found, container_of(target))


def _other_fields(spec: Object, found: Object, container: str) -> list[str]:
    """Marks and image left out."""
    template = spec["template"]
    meta = {key: value for key, value in template["metadata"].items() if key != "annotations"}
    first, *others = template["spec"]["containers"]
    image = str(manifests.container_in(found, container).get("image", ""))
    pod = {**template["spec"], "containers": [{**first, "image": image}, *others]}
    return unlike({**spec, "template": {"metadata": meta, "spec": pod}}, found["spec"])


def what_runs(found: Object | None, document: Object, container: str) -> dict[str, str]:
    """What a plan names of the Deployment that it is made for; empty for none. document: by the settings of now.

    shape: that of the settings, where the template is as they say; else a digest of all that is in it. So it can be
    said beforehand what a deployment will leave behind. digest: "" where a tag decides.
    """
    if found is None:
        return {}
    return {
        "version": manifests.version_in(found, container),
        "digest": manifests.digest_of_image(found, container),
        "shape": _shape(found, document, container),
        "configuration": marks_of(found["spec"]["template"]).get(CONFIGURATION, ""),
    }


def _shape(found: Object, document: Object, container: str) -> str:
    template, wanted = found["spec"]["template"], document["spec"]["template"]
    shape = marks_of(wanted)[SHAPE]
    other = marks_of(template).get(SHAPE) != shape or has_other_variables(found, container)
    other = other or bool(_other_fields({"template": wanted}, found, container))
    return digest_of(template)[:16] if other else shape


def _environment(target: Target, found: Object, instance: str) -> list[Difference]:
    marks, given = marks_of(found["spec"]["template"]), target.settings.get("configuration", "")
    said = []
    if has_other_variables(found, container_of(target)):
        said.append(("the variables that were deployed", "variables that somebody changed in the cluster"))
    elif given and marks.get(CONFIGURATION) != given:
        said.append((f"configuration {given}", f"configuration {marks.get(CONFIGURATION) or 'unknown'}"))
    others = other_settings(target, found)
    shape = manifests.shape_of_pod(manifests.deployment(target, "", "")["spec"]["template"]["spec"])
    if others or (SHAPE in marks and marks[SHAPE] != shape):
        words = ", ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
        said.append(("the settings of now", f"other {words or 'settings'}"))
    return [Difference("environment", instance, wanted, there) for wanted, there in said]
