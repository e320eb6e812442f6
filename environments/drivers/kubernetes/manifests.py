"""The guide's manifests, made from settings: Deployment, Service, HorizontalPodAutoscaler and Secret. Pure.

What is written here is applied, exported and compared: there is no second description of it. Marks that only hold for
one operation (its number and fence) are added when it is applied.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.operations.plans import digest_of
from environments.drivers.base import Target
from environments.drivers.kubernetes.settings import (
    NONE,
    RESOURCES,
    autoscale_of,
    container_of,
    name_of,
    setting,
)
from environments.image_names import digest_in, tag_of
from environments.secrets import Reference, Variable

Object = dict[str, Any]

MARK = "controlplane/"
OPERATION, FENCE, VERSION, DIGEST, CONFIGURATION, VARIABLES, SHAPE = (
    f"{MARK}{name}" for name in ("operation", "fence", "version", "digest", "configuration", "variables", "shape")
)
MANAGED = {"app.kubernetes.io/managed-by": "controlplane"}
HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def deployment(target: Target, image: str, version: str) -> Object:
    """The Deployment, its variables and the number of replicas left out."""
    name, pod = name_of(target), _pod(target, image)
    configuration = target.settings.get("configuration", "")
    marks = {VERSION: version, DIGEST: digest_in(image), CONFIGURATION: configuration, SHAPE: shape_of_pod(pod)}
    body: Object = {
        "revisionHistoryLimit": setting(target, "history"),
        "progressDeadlineSeconds": setting(target, "progress_seconds"),
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {key: setting(target, named) for key, named in
                              (("maxSurge", "max_surge"), ("maxUnavailable", "max_unavailable"))},
        },
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {
                "labels": {"app": name, **MANAGED},
                "annotations": marks,
            },
            "spec": pod,
        },
    }  # fmt: skip
    return _object(target, "apps/v1", "Deployment", name, {"spec": body})


def shape_of_pod(pod: Mapping[str, Any]) -> str:
    """Changes when pods of the same release would be made otherwise."""
    first, *others = pod["containers"]
    return digest_of({**pod, "containers": [{**first, "image": ""}, *others]})[:16]


def replicas(target: Target) -> int:
    """How many pods a Deployment begins with; where it scales by itself, the least there may be."""
    bounds = autoscale_of(target)
    return bounds["min"] if bounds else int(setting(target, "replicas"))


def _pod(target: Target, image: str) -> Object:
    port, ready = setting(target, "port"), setting(target, "ready_path")
    container: Object = {
        "name": container_of(target),
        "image": image,
        "ports": [{"containerPort": port, "protocol": "TCP"}],
        "resources": target.settings.get("resources", RESOURCES),
        "livenessProbe": _probe(target.health_path, port, *_times(target, "liveness")),
    }
    if ready:
        container["readinessProbe"] = _probe(ready, port, *_times(target, "readiness"))
    spec: Object = {"terminationGracePeriodSeconds": setting(target, "grace_seconds"), "containers": [container]}
    if account := setting(target, "service_account"):
        spec["serviceAccountName"] = account
    if pull := setting(target, "pull_secret"):
        spec["imagePullSecrets"] = [{"name": pull}]
    return spec


def _times(target: Target, probe: str) -> tuple[int, int]:
    return setting(target, f"{probe}_delay"), setting(target, f"{probe}_period")


def _probe(path: str, port: int, delay: int, period: int) -> Object:
    return {"httpGet": {"path": path, "port": port}, "initialDelaySeconds": delay, "periodSeconds": period}


def service(target: Target) -> Object | None:
    """The Service; None where the settings want none."""
    if setting(target, "service_type") == NONE:
        return None
    ports = [{"port": setting(target, "service_port"), "targetPort": setting(target, "port"), "protocol": "TCP"}]
    spec = {"type": setting(target, "service_type"), "selector": {"app": name_of(target)}, "ports": ports}
    return _object(target, "v1", "Service", name_of(target), {"spec": spec})


def autoscaler(target: Target) -> Object | None:
    """The guide's HorizontalPodAutoscaler; None where the settings have no `autoscale`."""
    bounds = autoscale_of(target)
    if bounds is None:
        return None
    metrics = [
        {"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization",
                                                                   "averageUtilization": bounds[name]}}}
        for name in ("cpu", "memory") if bounds[name]
    ]  # fmt: skip
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name_of(target)},
        "minReplicas": bounds["min"],
        "maxReplicas": bounds["max"],
        "metrics": metrics,
    }
    return _object(target, "autoscaling/v2", "HorizontalPodAutoscaler", f"{name_of(target)}-hpa", {"spec": spec})


def _object(target: Target, version: str, kind: str, name: str, rest: Object) -> Object:
    labels = {"app": name_of(target), **MANAGED}
    metadata = {"name": name, "namespace": setting(target, "namespace"), "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


# --- variables ----------------------------------------------------------------------------------------


def secret_name(name: str, configuration: str) -> str:
    """What our Secret is called: by the fingerprint of the configuration, which tells nothing of the values."""
    return f"{name}-{configuration or 'variables'}"


def secret(document: Object, configuration: str, values: Mapping[str, str]) -> Object:
    """Our Secret beside a Deployment.

    A `Reference` stays readable, for a file that somebody fills in. It is no base64, so a cluster refuses the file
    until then, instead of taking the reference for the password.
    """
    meta = document["metadata"]
    name = secret_name(meta["name"], configuration)
    metadata = {"name": name, "namespace": meta["namespace"], "labels": dict(meta["labels"])}
    data = {
        name: str(value) if isinstance(value, Reference) else base64.b64encode(value.encode()).decode()
        for name, value in values.items()
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def split(variables: Sequence[Variable], elsewhere: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Plain values, and those of our Secret. elsewhere: variables that existing Secrets give."""
    ours = [one for one in variables if one.name not in elsewhere]
    return {one.name: one.value for one in ours if not one.secret}, {one.name: one.value for one in ours if one.secret}


def with_variables(
    document: Object, plain: Mapping[str, str], hidden: Sequence[str], elsewhere: Mapping[str, str], configuration: str
) -> Object:
    """The Deployment with its variables: plain ones in the template, the others as references to Secrets."""
    # A kubelet reads $(NAME) as another variable and $$ as one dollar.
    given: list[Object] = [{"name": name, "value": value.replace("$", "$$")} for name, value in plain.items()]
    ours = secret_name(document["metadata"]["name"], configuration)
    given += [_from_secret(name, ours, name) for name in hidden]
    given += [_from_secret(name, *where.split("/", 1)) for name, where in elsewhere.items()]
    given.sort(key=lambda one: str(one["name"]))
    template = document["spec"]["template"]
    first, *others = template["spec"]["containers"]
    spec = {**template["spec"], "containers": [{**first, "env": given}, *others]}
    filled = annotated({**template, "spec": spec}, {VARIABLES: shape_of_variables(given)})
    return {**document, "spec": {**document["spec"], "template": filled}}


def _from_secret(name: str, secret_named: str, key: str) -> Object:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_named, "key": key}}}


def shape_of_variables(given: Sequence[Mapping[str, Any]]) -> str:
    """Changes when somebody changes a variable in the cluster. The API server leaves an empty value out."""
    said = {str(one["name"]): {key: value for key, value in one.items() if value != ""} for one in given}
    return digest_of(said)[:16]


def variables_from(given: Mapping[str, str]) -> list[Variable]:
    """Variables of an export, in which a secret is a `Reference`."""
    return [Variable(name, value, secret=isinstance(value, Reference)) for name, value in given.items()]


def annotated(document: Object, marks: Mapping[str, str]) -> Object:
    """The same object with more annotations."""
    meta = document["metadata"]
    return {**document, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), **marks}}}


# --- reading what is there ----------------------------------------------------------------------------


def marks_of(found: Mapping[str, Any]) -> dict[str, str]:
    """The annotations of an object or a template."""
    return dict((found.get("metadata") or {}).get("annotations") or {})


def fence_of(found: Mapping[str, Any] | None) -> int:
    """The highest fence that acted on it; 0 where none did."""
    text = marks_of(found).get(FENCE, "") if found else ""
    return int(text) if text.isdigit() else 0


def container_in(found: Mapping[str, Any], name: str) -> Object:
    """The container of a Deployment or ReplicaSet that is ours; the only one there is has any name. Empty for none."""
    containers = found["spec"]["template"]["spec"]["containers"]
    chosen = [one for one in containers if one["name"] == name or len(containers) == 1]
    return dict(chosen[0]) if chosen else {}


def version_in(found: Mapping[str, Any], name: str) -> str:
    """What the template says it is: our mark, while it has the image it was made for; the image's tag, or "unknown"."""
    image, marks = str(container_in(found, name).get("image", "")), marks_of(found["spec"]["template"])
    ours = marks.get(DIGEST, digest_in(image)) == digest_in(image)
    return (marks.get(VERSION) if ours else "") or tag_of(image) or "unknown"


def digest_of_image(found: Mapping[str, Any], name: str) -> str:
    """The digest it is pinned to, "" when a tag decides."""
    return digest_in(str(container_in(found, name).get("image", "")))
