"""Setting how many tasks a service of ECS runs, for disaster recovery: all of it elsewhere, or none of it here.

1. register a copy of the revision that runs there, with the image by its digest, if it has another one;
2. give the service the count, and that revision, in one call;
3. wait until so many run and are well. For 0: until ECS says of every task that it has stopped, since a task that was
   told to stop may still write while `runningCount` does not count it any more.

The image is taken from the registry that the service's own definition names, which is that of its region.
"""

from typing import Any

from django.conf import settings

from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.models import Operation
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.addresses import NoAnswer, get
from environments.aws import CHANGE_ATTEMPTS, READ_ATTEMPTS, ecs, in_words
from environments.drivers.ecs.service import OPERATION, VERSION, Definition, EcsService, State, short
from environments.drivers.ecs.standing import note_left
from environments.drivers.telling import REGISTERED, intend, tell_if_meant, tell_once
from environments.image_names import digest_in, repository_of

SCALED = "scaled"
# So often in a row ECS does not answer before a person is asked whether nothing runs.
UNANSWERED = 3
PAGE = 100  # tasks that ECS describes at once
# The containers of such a task have ended.
STOPPED = ("STOPPED", "DEPROVISIONING", "DELETED")


def _at(context: StepContext, place: Arguments) -> EcsService:
    service = EcsService.at(place)
    if keys := service.account.keys():
        context.mask(*keys)
    return service


def _mark(context: StepContext) -> str:
    """What a revision is marked with."""
    return f"operation {context.operation_id}"


def _pause(context: StepContext) -> None:
    context.wait(max(0.0, min(settings.CLOUD_POLL_SECONDS, context.remaining())))


def _say_once(context: StepContext, words: str) -> None:
    if context.checkpoint.get("said") != words:
        context.log(words)
        context.save_checkpoint(said=words)


# --- a revision with the image --------------------------------------------------------------------------


def _ours(context: StepContext, service: EcsService, family: str, after: int, digest: str) -> Definition | None:
    found = service.registered_by(_mark(context), family, after)
    return found if found and digest_in(found.image) == digest else None


def _is_registered(context: StepContext, *, place: Arguments, digest: str, version: str) -> Seen:
    service = _at(context, place)
    now = service.definition(service.state().definition)
    if digest_in(now.image) == digest:
        context.save_checkpoint(revision=now.arn)
        context.log(f"{short(now.arn)} has the image {digest[:19]} already")
        return Seen.DONE
    kept = context.checkpoint
    if "former" not in kept:
        context.save_checkpoint(former=now.arn, family=now.family, newest=service.newest(now.family, now.revision))
        return Seen.NOT_DONE
    found = _ours(context, service, kept["family"], kept["newest"], digest)
    if found is None:
        return Seen.NOT_DONE
    context.save_checkpoint(revision=found.arn)
    tell_once(context, REGISTERED, place["service"], digest=digest, version=version)
    context.log(f"{short(found.arn)} is registered")
    return Seen.DONE


def _register(context: StepContext, *, place: Arguments, digest: str, version: str) -> None:
    service = _at(context, place)
    former = service.definition(context.checkpoint["former"])
    image = f"{repository_of(former.image)}@{digest}"
    request = former.request(image, {OPERATION: _mark(context), VERSION: version})
    context.check()
    revision = service.register(request)
    context.save_checkpoint(revision=revision)
    tell_once(context, REGISTERED, place["service"], digest=digest, version=version)
    context.log(f"registered {short(revision)} with {image}")


def _noted(context: StepContext, place: Arguments, function: str, name: str) -> str:
    """What the operation's last step of this function noted for the service; "" when none did."""
    operation = Operation.objects.only("plan").get(pk=context.operation_id)
    for step in operation.steps.order_by("-position"):
        step.operation = operation  # one plan in memory, not one a step
        if step.spec["function"] == function and step.spec["arguments"]["place"] == place and name in step.checkpoint:
            return str(step.checkpoint[name])
    return ""


def _revision(context: StepContext, place: Arguments, digest: str) -> str:
    """The revision that the step before found or registered, "" when the service keeps its own. Raises StepError."""
    if not digest:
        return ""
    if revision := _noted(context, place, "ecs.scale-register", "revision"):
        return revision
    words = f"This operation has no revision with the image {digest[:19]} for {place['service']}."
    raise StepError(words, permanent=True)


# --- the count ------------------------------------------------------------------------------------------


def _is_scaled(context: StepContext, *, place: Arguments, count: int, digest: str) -> Seen:
    try:
        service = _at(context, place)
        state = service.state()
    except StepError:
        if count == 0:
            return Seen.NOT_DONE  # acting says what is wrong
        raise
    if "event" not in context.checkpoint:
        context.save_checkpoint(event=state.newest_event)  # what ECS says from here on is about the new count
    revision = _revision(context, place, digest)
    if state.desired != count or revision not in ("", state.definition):
        return Seen.NOT_DONE
    tell_if_meant(context, SCALED, place["service"], count=count)
    context.log(f"the {service.words} has {count} as its desired count")
    return Seen.DONE


def _scale(context: StepContext, *, place: Arguments, count: int, digest: str) -> None:
    """Ask for the count. For 0, a place that cannot be reached is said: whether nothing runs is seen later."""
    try:
        _ask_for(context, place, count, digest)
    except StepError as error:
        if count:
            raise
        context.log(f"could not be stopped: {error}", level="warning")


def _ask_for(context: StepContext, place: Arguments, count: int, digest: str) -> None:
    service = _at(context, place)
    more: Any = {"taskDefinition": revision} if (revision := _revision(context, place, digest)) else {}
    intend(context)
    with in_words("ecs:UpdateService", service.words):
        ecs(service.account, CHANGE_ATTEMPTS).update_service(
            cluster=service.cluster, service=service.service, desiredCount=count, **more
        )
    tell_once(context, SCALED, place["service"], count=count)
    context.log(f"asked ECS for {count} tasks of the {service.words}")


def _nothing(context: StepContext, **arguments: Any) -> None:
    """Waiting has no effect."""


# --- so many run ----------------------------------------------------------------------------------------


def _are_up(context: StepContext, *, place: Arguments, count: int, digest: str, url: str, checks: int) -> Verdict:
    """Look once. Pending: after a pause. A call that fails for a passing reason is no verdict."""
    try:
        service = _at(context, place)
        state = service.state()
        if "event" not in context.checkpoint:
            context.save_checkpoint(event=_noted(context, place, "ecs.scale", "event") or state.newest_event)
        verdict = _judge(context, service, state, count, _revision(context, place, digest))
        if verdict.outcome == "passed" and url:
            verdict = _ask_health(context, url, checks)
        if verdict.outcome == "passed":
            note_left(context, state, service.definition(state.definition), scaled=True)
    except StepError as error:
        if error.permanent:
            raise
        verdict = pending(str(error))
    if verdict.outcome == "pending":
        _say_once(context, verdict.reason)
        _pause(context)
    return verdict


def _judge(context: StepContext, service: EcsService, state: State, count: int, revision: str) -> Verdict:
    for message in state.news(context.checkpoint["event"]):
        context.log(message)
    if state.newest_event != context.checkpoint["event"]:
        context.save_checkpoint(event=state.newest_event)
    if state.desired != count:
        return failed(f"the {service.words} is to run {state.desired} tasks, not {count}: somebody changed it")
    if revision not in ("", state.definition):
        return failed(f"{short(state.definition)} is in service, not {short(revision)}: its tasks did not stay up")
    if state.primary.get("rolloutState") == "FAILED":
        return failed(f"the rollout failed: {state.primary.get('rolloutStateReason') or 'ECS does not say why'}")
    context.progress(min(state.arrived, count), count, "tasks")
    settled = state.running == state.arrived == count and state.pending == 0 and not state.others
    return passed(state.in_words) if settled else pending(state.in_words)


def _ask_health(context: StepContext, url: str, checks: int) -> Verdict:
    """So many good answers in a row pass; until then it is pending, since what has just started takes a moment."""
    try:
        answer = get(url)
        said, good = f"{answer.status} in {answer.latency_ms:.0f} ms", answer.status == 200
    except NoAnswer as error:
        said, good = str(error), False
    row = context.checkpoint.get("good", 0) + 1 if good else 0
    context.save_checkpoint(good=row)
    words = f"GET {url} → {said}"
    return passed(f"{words}, {row} times in a row") if row >= checks else pending(words)


# --- none runs ------------------------------------------------------------------------------------------


def _is_down(context: StepContext, *, place: Arguments) -> Verdict:
    """Does no task run any more? What came back meanwhile is told to stop again. Raises `Unknown` without an answer."""
    doubt = f"So nobody can see whether tasks of {place['service']} in {place['region']} still run and write."
    try:
        service = _at(context, place)
        if service.state().desired:
            _ask_for(context, place, 0, "")
        still = _tasks_left(service)
    except StepError as error:
        missed = context.checkpoint.get("unanswered", 0) + 1
        if error.permanent or missed >= UNANSWERED or context.remaining() <= 0:
            context.save_checkpoint(unanswered=0)
            raise Unknown(f"{error} {doubt}") from error
        context.save_checkpoint(unanswered=missed)
        still = str(error)
    else:
        if context.checkpoint.get("unanswered"):
            context.save_checkpoint(unanswered=0)
        if not still:
            if _noted(context, place, "ecs.scale", "meant") and not _noted(context, place, "ecs.scale", "told"):
                tell_once(context, SCALED, place["service"], count=0)  # the answer was lost, the call was not
            words = f"no task of the {service.words} runs"
            context.log(words)
            return passed(words)
    _say_once(context, still)
    if context.remaining() <= 0:
        raise Unknown(f"Not within its time: {still}. {doubt}")
    _pause(context)
    return pending(still)


def _tasks_left(service: EcsService) -> str:
    """What still runs, in words; "" when nothing does. Of stopped tasks too ECS says how far they are."""
    client, left = ecs(service.account, READ_ATTEMPTS), []
    for wanted in ("RUNNING", "STOPPED"):
        names: list[str] = []
        with in_words("ecs:ListTasks", service.words):
            pages = client.get_paginator("list_tasks").paginate(
                cluster=service.cluster, serviceName=service.service, desiredStatus=wanted
            )
            for page in pages:
                names += page["taskArns"]
        for start in range(0, len(names), PAGE):
            with in_words("ecs:DescribeTasks", service.words):
                answer = client.describe_tasks(cluster=service.cluster, tasks=names[start : start + PAGE])
            left += [str(one.get("lastStatus", "")) for one in answer["tasks"] if one.get("lastStatus") not in STOPPED]
    kinds = ", ".join(sorted({one.lower() for one in left}))
    return f"{len(left)} tasks of the {service.words} are left ({kinds})" if left else ""


STEPS = {
    "ecs.scale-register": StepFunction(observe=_is_registered, act=_register),
    "ecs.scale": StepFunction(observe=_is_scaled, act=_scale),
    "ecs.scaled": StepFunction(act=_nothing, verify=_are_up, poll=0.0),
    "ecs.down": StepFunction(act=_nothing, verify=_is_down, poll=0.0),
}
