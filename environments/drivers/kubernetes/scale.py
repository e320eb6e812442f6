"""How many pods there are, for disaster recovery: so many run and are well, or none is left."""

from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.drivers.kubernetes.api import Api
from environments.drivers.kubernetes.manifests import digest_of_image
from environments.drivers.kubernetes.objects import api_at, guarded
from environments.drivers.kubernetes.steps import set_replicas, tell_scaled
from environments.drivers.kubernetes.watch import nothing, pause, say_once

UNANSWERED = 3


def wanted_count(api: Api, place: Arguments, count: int) -> int:
    """How many pods that comes to: where an autoscaler is in charge, no fewer and no more than it allows."""
    scaler = api.find("HorizontalPodAutoscaler", f"{place['name']}-hpa") if count else None
    if scaler is None:
        return count
    bounds = scaler["spec"]
    return min(max(count, int(bounds.get("minReplicas", 1))), int(bounds["maxReplicas"]))


def _is_scaled(context: StepContext, *, place: Arguments, count: int) -> Seen:
    try:
        with api_at(context, place) as api:
            found = guarded(context, api.find("Deployment", place["name"]))
            wanted = wanted_count(api, place, count)
    except StepError:
        if count == 0:
            return Seen.NOT_DONE  # acting says what is wrong
        raise
    if found is None or found["spec"].get("replicas", 1) != wanted:
        return Seen.NOT_DONE if found is not None or count else Seen.DONE
    tell_scaled(context, place, wanted, asked=count)
    context.log(f"{place['name']} has {wanted} as its number of pods")
    return Seen.DONE


def _scale(context: StepContext, *, place: Arguments, count: int) -> None:
    """Ask for the count. For 0, a place that cannot be reached is said: whether nothing runs is seen later."""
    try:
        with api_at(context, place) as api:
            wanted = wanted_count(api, place, count)
            if wanted != count:
                context.log(f"the autoscaler of {place['name']} allows {wanted}, not {count}", level="warning")
            set_replicas(context, api, place, wanted, force=True, asked=count)
    except StepError as error:
        if count:
            raise
        context.log(f"could not be stopped: {error}", level="warning")


def _are_up(context: StepContext, *, place: Arguments, count: int, poll: float, digest: str) -> Verdict:
    """So many pods run and are well, of the image if one is named."""
    try:
        with api_at(context, place) as api:
            found = api.find("Deployment", place["name"])
            if found is None:
                return failed(f"there is no Deployment {place['name']}")
            if digest and digest_of_image(found, place["container"]) != digest:
                return failed(f"Deployment {place['name']} has another image than {digest[:19]}")
            least, status = wanted_count(api, place, count), found.get("status") or {}
            taken_up = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
            well = min(int(status.get(f"{key}Replicas", 0)) for key in ("available", "updated"))
            words = f"{well} of {least} pods of {place['name']} are well"
            context.progress(min(well, least), least, "pods")
            if taken_up and well >= least:
                return passed(words)
            say_once(context, words)
            pause(context, api, found, poll)
            return pending(words)
    except StepError as error:
        if error.permanent:
            raise
        pause(context, None, None, poll)
        return pending(str(error))


def _is_down(context: StepContext, *, place: Arguments, poll: float) -> Verdict:
    """Is no pod left? What came back meanwhile is told to stop again. Raises `Unknown` without an answer."""
    doubt = f"So nobody can see whether pods of {place['name']} still run and write."
    try:
        with api_at(context, place) as api:
            found = guarded(context, api.find("Deployment", place["name"]))
            if found is not None and found["spec"].get("replicas", 1):
                set_replicas(context, api, place, 0, force=True, asked=0)
            tell_scaled(context, place, 0, asked=0)  # by an earlier attempt, whose worker died
            selector = f"app={place['name']}"
            if found is not None:
                selector = ",".join(f"{k}={v}" for k, v in found["spec"]["selector"].get("matchLabels", {}).items())
            pods = api.listed("Pod", labelSelector=selector)
    except StepError as error:
        missed = context.checkpoint.get("unanswered", 0) + 1
        context.save_checkpoint(unanswered=missed)
        if error.permanent or missed >= UNANSWERED or context.remaining() <= 0:
            raise Unknown(f"{error} {doubt}") from error
        pause(context, None, None, poll)
        return pending(str(error))
    context.save_checkpoint(unanswered=0)
    # A pod that is told to end, and one on a node that nobody hears of, may still write.
    left = [one for one in pods if (one.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    if not left:
        words = f"no pod of {place['name']} runs"
        context.log(words)
        return passed(words)
    words = f"{len(left)} pods of {place['name']} are left"
    say_once(context, words)
    if context.remaining() <= 0:
        raise Unknown(f"Not within its time: {words}. {doubt}")
    pause(context, None, None, poll)
    return pending(words)


STEPS = {
    "kubernetes.scale": StepFunction(observe=_is_scaled, act=_scale),
    "kubernetes.scaled": StepFunction(act=nothing, verify=_are_up, poll=0.0),
    "kubernetes.down": StepFunction(act=nothing, verify=_is_down, poll=0.0),
}
