"""What stands around a Deployment: its Service, its autoscaler, its pods, and where requests are sent.

Only what we write is compared, as for the Deployment itself.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from environments.drivers.base import Difference, Target
from environments.drivers.kubernetes import manifests
from environments.drivers.kubernetes.api import Api, Object
from environments.drivers.kubernetes.fields import element, unlike

SERVICE, SCALER = "Service", "HorizontalPodAutoscaler"
REASONS = 3  # why pods are not ready, so many that differ


@dataclass(frozen=True)
class Around:
    """service, scaler: as they are there, None for none. pods: of the Deployment. endpoints: address → uid of its pod.

    An endpoint that is no pod has the uid "".
    """

    service: Object | None
    scaler: Object | None
    pods: tuple[Object, ...]
    endpoints: Mapping[str, str]


def look_around(api: Api, target: Target, found: Object) -> Around:
    """Ask for all of it. Raises StepError."""
    objects = {kind: api.find(kind, wanted["metadata"]["name"]) for kind, wanted in wanted_around(target).items()}
    # A pod that comes after its list was read is no endpoint yet.
    pods = own_pods(api, found)
    endpoints = endpoints_of(api, found["metadata"]["name"]) if SERVICE in objects else {}
    return Around(objects.get(SERVICE), objects.get(SCALER), tuple(pods), endpoints)


def wanted_around(target: Target) -> dict[str, Object]:
    """The objects beside the Deployment that the settings want, by kind."""
    both = {SERVICE: manifests.service(target), SCALER: manifests.autoscaler(target)}
    return {kind: one for kind, one in both.items() if one is not None}


def own_pods(api: Api, found: Object) -> list[Object]:
    """The pods of a Deployment, of whichever template: those of its ReplicaSets, not all that are labelled so."""
    labels = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"].get("matchLabels", {}).items())
    owners = {found["metadata"]["uid"]}
    sets = {one["metadata"]["uid"] for one in api.listed("ReplicaSet", labelSelector=labels) if _has_owner(one, owners)}
    return [one for one in api.listed("Pod", labelSelector=labels) if _has_owner(one, sets)]


def _has_owner(one: Object, uids: set[str]) -> bool:
    return any(owner["uid"] in uids for owner in one["metadata"].get("ownerReferences") or [])


def endpoints_of(api: Api, name: str) -> dict[str, str]:
    """The addresses that the Service of that name sends requests to, each with the uid of the pod that it is."""
    found: dict[str, str] = {}
    for part in api.listed("EndpointSlice", labelSelector=f"kubernetes.io/service-name={name}"):
        for one in part.get("endpoints") or []:
            if (one.get("conditions") or {}).get("ready", True):
                pod = one.get("targetRef") or {}
                uid = str(pod.get("uid", "")) if pod.get("kind") == "Pod" else ""
                found |= {str(address): uid for address in one.get("addresses") or []}
    return found


def uids_of(pods: list[Object] | tuple[Object, ...]) -> set[str]:
    """By which endpoints name them."""
    return {str(one["metadata"]["uid"]) for one in pods}


def is_ready(pod: Object) -> bool:
    """It is to get requests."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


# --- what differs -------------------------------------------------------------------------------------


def as_compared(document: Object) -> Object:
    """The same, with what is replaced as a whole as one value: the selector of a Service, the metrics of an autoscaler.

    A label more in a selector leads to other pods, so it has to be seen; metrics have no order.
    """
    spec = dict(document.get("spec") or {})
    if document.get("kind") == SERVICE and spec.get("selector"):
        spec["selector"] = json.dumps(spec["selector"], sort_keys=True)
    if spec.get("metrics"):
        spec["metrics"] = sorted(spec["metrics"], key=lambda one: json.dumps(one, sort_keys=True))
    return {**document, "spec": spec}


def other_fields(wanted: Object, found: Object) -> list[str]:
    """Where it is otherwise than we write it, by path; of a Service also a port more."""
    meant, there = (as_compared(one)["spec"] for one in (wanted, found))
    keys = [{"port": one["port"], "protocol": one.get("protocol", "TCP")} for one in there.get("ports") or []]
    more = [one["port"] for one in keys if element(meant.get("ports"), one) is None]
    return [*unlike(meant, there, ("spec",)), *(f"spec.ports.{one}" for one in more)]


def around_differs(target: Target, around: Around) -> dict[str, str]:
    """What is there of the objects that are not as we write them, in words, by kind."""
    found = {SERVICE: around.service, SCALER: around.scaler}
    said = {}
    for kind, wanted in wanted_around(target).items():
        there = found[kind]
        if there is None:
            said[kind] = f"no {kind}"
        elif others := other_fields(wanted, there):
            said[kind] = f"other {', '.join(others)}"
    return said


def differences_around(target: Target, found: Object, around: Around, instance: str) -> Iterator[Difference]:
    """Of what stands around it, of the pods that run, and of those that get requests."""
    what = {SERVICE: "registration", SCALER: "count"}
    for kind, words in around_differs(target, around).items():
        yield Difference(what[kind], instance, f"the {kind} of the settings", words)
    count = int(found["spec"].get("replicas", 1))
    ready = [one for one in around.pods if is_ready(one)]
    if len(ready) < count:
        why = _why(found, [one for one in around.pods if one not in ready])
        yield Difference("count", instance, f"{count} ready pods", f"{len(ready)}{why and f': {why}'}")
    if manifests.service(target) is None:
        return
    ours = uids_of(ready) & set(around.endpoints.values())
    if len(ours) < len(ready):
        yield Difference("registration", instance, f"{len(ready)} ready endpoints", f"{len(ours)}")
    strange = [one for one in around.endpoints.values() if one not in uids_of(around.pods)]
    if strange:
        words = f"{len(strange)} that are not its pods" if len(strange) > 1 else "1 that is not its pod"
        yield Difference("registration", instance, "endpoints that are its pods", words)


def _why(found: Object, pods: list[Object]) -> str:
    """What the cluster and the pods say: only what does not change from look to look."""
    conditions = (found.get("status") or {}).get("conditions") or []
    refused = [str(one.get("message", "")) for one in conditions
               if one["type"] == "ReplicaFailure" and one["status"] == "True"]  # fmt: skip
    # Before it stands the name of a pod that was not made, another one each time.
    said = [one.rpartition(" is forbidden: ")[2] for one in refused]
    said += [words for pod in pods for words in _said_of(pod)]
    return "; ".join(list(dict.fromkeys(said))[:REASONS])


def _said_of(pod: Object) -> Iterator[str]:
    status: Mapping[str, Any] = pod.get("status") or {}
    for one in status.get("conditions") or []:
        if one["type"] == "PodScheduled" and one["status"] == "False":
            yield f"{one.get('reason', '')}: {one.get('message', '')}".strip(": ")
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = ((one.get("state") or {}).get("waiting") or {}).get("reason", "")
        ended = (one.get("lastState") or {}).get("terminated") or {}
        code = f"exit code {ended['exitCode']}" if "exitCode" in ended else ""
        if words := ", ".join(part for part in (waiting, code) if part and not one.get("ready")):
            yield f"{one['name']}: {words}"
