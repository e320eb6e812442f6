"""How a rollout is watched: conditions, generations, pods, events and logs, until it is good or cannot become good.

Each look is complete in itself, so a worker that goes on after a crash misses nothing; the watch between two looks only
makes the next one come sooner. What pods say at their end is told in the operation's log, with secrets masked.
"""

import time
from collections.abc import Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, digest_of
from controlplane.operations.registry import StepContext, StepFunction, Verdict, failed, passed, pending
from environments.drivers.kubernetes.api import Api, Gone, NotThere, Object
from environments.drivers.kubernetes.around import endpoints_of, uids_of
from environments.drivers.kubernetes.former import was_left
from environments.drivers.kubernetes.manifests import HASH, digest_of_image
from environments.drivers.kubernetes.objects import api_at, guarded, is_ours, replica_set_of
from environments.models import Environment
from environments.secrets import secrets_of

# What a container waits for that will not come by itself.
HOPELESS = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
REFUSED = ("exceeded quota", "forbidden", "denied")
TOLD = 100  # events whose telling is remembered
LAST_MOMENT = 0.01  # seconds before the deadline
PODS_HEARD = 3  # failing pods whose logs are told


def nothing(context: StepContext, **arguments: Any) -> None:
    """Waiting has no effect."""


def say_once(context: StepContext, words: str) -> None:
    """A line when it is another one than before."""
    if context.checkpoint.get("said") != words:
        context.log(words)
        context.save_checkpoint(said=words)


def pause(context: StepContext, api: Api | None, found: Object | None, poll: float) -> None:
    """Wait for news of a Deployment, at most so many seconds. A watch that cannot be had is only a wait."""
    until = time.monotonic() + max(0.0, min(poll, context.remaining()))
    try:
        if api is not None and found is not None:
            _hear(context, api, found["metadata"], until, poll / 5)
            return
    except Gone:
        pass  # the next look reads it anew
    except StepError as error:
        context.log(f"{error}", level="warning")
    context.wait(max(0.0, until - time.monotonic()))


def _hear(context: StepContext, api: Api, meta: Mapping[str, Any], until: float, between: float) -> None:
    """Watch until something changes. A watch that the server ends is taken up again from where it was."""
    version = meta["resourceVersion"]
    while (left := until - time.monotonic()) > 0:
        changed, version = api.news("Deployment", meta["name"], version, left)
        context.check()
        if changed:
            return
        context.wait(max(0.0, min(between, until - time.monotonic())))


# --- the rollout --------------------------------------------------------------------------------------


def _is_rolled(context: StepContext, *, place: Arguments, poll: float, back: bool, **how: Any) -> Verdict:
    """Look once. Pending: after waiting for news. A call that fails for a passing reason is no verdict.

    back: on the way back, where there is nothing to wait for if nothing was changed.
    """
    try:
        with api_at(context, place) as api:
            found = guarded(context, api.find("Deployment", place["name"]))
            if back and was_left(context, place, found):
                return passed(f"Deployment {place['name']} was not changed by this operation")
            if found is None:
                return failed(f"somebody has deleted Deployment {place['name']}")
            verdict = _judge(context, api, place, found, **how)
            if verdict.outcome == "pending":
                say_once(context, verdict.reason)
                pause(context, api, found, poll)
                if context.remaining() <= LAST_MOMENT:  # the engine asks no more
                    tell_last_words(context, api, place, pods_of(api, found), how["lines"])
            return verdict
    except StepError as error:
        if error.permanent:
            raise
        say_once(context, f"{error}; asking again")
        pause(context, None, None, poll)
        return pending(str(error))


def _judge(
    context: StepContext,
    api: Api,
    place: Arguments,
    found: Object,
    *,
    digest: str,
    restarts: int,
    lines: int,
    registered: bool,
) -> Verdict:
    if not is_ours(context, found) or (digest and digest_of_image(found, place["container"]) != digest):
        return failed(f"Deployment {place['name']} was changed by somebody else meanwhile")
    status, meta = found.get("status") or {}, found["metadata"]
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        return pending("the cluster has not taken it up yet")
    pods = pods_of(api, found)
    tell_events(context, api, [place["name"], *(one["metadata"]["name"] for one in pods)])
    if wrong := _hopeless(status) or _broken(pods, restarts, _restarts_before(context, pods)):
        tell_last_words(context, api, place, pods, lines)
        return failed(wrong)
    wanted = int(found["spec"].get("replicas", 1))
    numbers = {key: int(status.get(f"{key}Replicas", 0)) for key in ("updated", "available", "ready")}
    total = int(status.get("replicas", 0))
    context.progress(min(numbers["updated"], numbers["available"], wanted), wanted, "pods")
    said = f"{wanted} wanted, {numbers['updated']} renewed, {numbers['ready']} ready, {numbers['available']} available"
    if not numbers["updated"] == total == wanted or numbers["available"] < wanted:
        return pending(said)
    if registered and (missing := wanted - len(uids_of(pods) & set(endpoints_of(api, place["name"]).values()))) > 0:
        return pending(f"{said}; {missing} are no endpoint of the Service yet")
    context.log(said)
    return passed(said)


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {one["type"]: one for one in status.get("conditions") or []}


def _hopeless(status: Mapping[str, Any]) -> str:
    """What a condition of the Deployment says for good, "" for nothing."""
    conditions = _conditions(status)
    refused = conditions.get("ReplicaFailure", {})
    said = str(refused.get("message", ""))
    if refused.get("status") == "True" and any(word in said for word in REFUSED):
        return f"the cluster refuses to make pods: {said}"
    progressing = conditions.get("Progressing", {})
    if progressing.get("status") == "False":
        return f"the rollout does not get on: {progressing.get('message') or progressing.get('reason')}"
    return ""


def pods_of(api: Api, found: Object) -> list[Object]:
    """The pods of a Deployment's present template. Raises StepError while there is no ReplicaSet of it."""
    labels = dict(found["spec"]["selector"].get("matchLabels", {}))
    labels[HASH] = (replica_set_of(api, found)["metadata"].get("labels") or {}).get(HASH, "")
    return api.listed("Pod", labelSelector=",".join(f"{key}={value}" for key, value in labels.items() if value))


def _containers(pod: Object) -> list[Mapping[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _restarts_before(context: StepContext, pods: list[Object]) -> Mapping[str, int]:
    """How often containers that were well at the first look had been restarted by then: that is no fault of this."""
    if "restarts_before" not in context.checkpoint:
        before = {
            f"{pod['metadata']['name']}/{one['name']}": one["restartCount"]
            for pod in pods
            for one in _containers(pod)
            if one.get("ready") and one.get("restartCount")
        }
        context.save_checkpoint(restarts_before=before)
    found: Mapping[str, int] = context.checkpoint["restarts_before"]
    return found


def _broken(pods: list[Object], restarts: int, before: Mapping[str, int]) -> str:
    """Why a pod will not become well, "" when all may."""
    for pod in pods:
        name = pod["metadata"]["name"]
        for one in _containers(pod):
            waiting = (one.get("state") or {}).get("waiting") or {}
            reason, said = waiting.get("reason", ""), str(waiting.get("message", ""))
            if reason in HOPELESS:
                return f"{name} does not start: {reason}: {said}".rstrip(": ")
            times = one.get("restartCount", 0) - before.get(f"{name}/{one['name']}", 0)
            if times >= restarts:
                ended = (one.get("lastState") or {}).get("terminated") or {}
                how = f", exit code {ended['exitCode']}" if "exitCode" in ended else ""
                return f"{name} was restarted {times} times{how}"
    return ""


# --- what the cluster and the pods say ----------------------------------------------------------------


def tell_events(context: StepContext, api: Api, names: list[str]) -> None:
    """Warnings about these objects that were not told yet. An account that may not read events is told so, once."""
    told = list(context.checkpoint.get("told_events", []))
    try:
        events = api.listed("Event", fieldSelector="type=Warning")
    except StepError as error:
        say_once(context, f"events cannot be read: {error}")
        return
    new = []
    for one in events:
        name = str((one.get("involvedObject") or {}).get("name", ""))
        key = digest_of({"uid": one["metadata"].get("uid"), "count": one.get("count", 1)})[:12]
        if name in names and key not in told:
            new.append(key)
            context.log(f"{name}: {one.get('reason', '')}: {one.get('message', '')}", level="warning")
    if new:
        context.save_checkpoint(told_events=[*told, *new][-TOLD:])


def tell_last_words(context: StepContext, api: Api, place: Arguments, pods: list[Object], lines: int) -> None:
    """The end of the logs of pods that are not well."""
    context.mask(*secrets_of(Environment.objects.get(slug=place["environment"])))
    ill = [pod for pod in pods if not all(one.get("ready") for one in _containers(pod)) or not _containers(pod)]
    for pod in ill[:PODS_HEARD] if lines else []:
        name = pod["metadata"]["name"]
        for container in _containers(pod):
            try:
                said = api.log(name, container["name"], lines, previous=container.get("restartCount", 0) > 0)
            except NotThere:
                continue
            except StepError as error:
                context.log(f"{name}: its log cannot be read: {error}", level="warning")
                continue
            for line in said:
                context.log(f"{name} | {line}", level="warning")


STEPS = {"kubernetes.rolled": StepFunction(act=nothing, verify=_is_rolled, poll=0.0)}
