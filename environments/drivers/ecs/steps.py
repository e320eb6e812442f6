"""The steps of the ecs driver: each can be repeated after any crash, because it looks before it acts.

What identifies an effect: a revision by a label with the operation's number, a rollout by its revision, a forced
one by being another deployment than the one that was noted before.
"""

from typing import Any

from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.models import Operation
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed, pending
from environments.addresses import NoAnswer, get
from environments.drivers.ecs.service import OPERATION, VERSION, EcsService, State, family_of, short
from environments.drivers.ecs.standing import note_left
from environments.drivers.telling import REGISTERED, tell_once
from environments.image_names import digest_in

UPDATED = "updated"
# What the service is updated to.
NEW, FORMER, SAME = "the new revision", "the former revision", "the same revision anew"


def _service(context: StepContext, place: Arguments) -> EcsService:
    service = EcsService.at(place)
    if keys := service.account.keys():
        context.mask(*keys)
    return service


def _kept(context: StepContext) -> Arguments:
    """What the steps of this operation noted so far of this service; a later one's word counts more.

    One operation may change several services: the restore of a restore point does.

    former: the revision that ran before; family: in which ours is registered; newest: its newest number then;
    before: the deployment then; revision: the one we registered; deployment: the one we started; event: the last
    service event told; asked_after: the last service event before we asked for a rollout.
    """
    operation = Operation.objects.only("plan").get(pk=context.operation_id)
    places, noted = {}, {}
    for step in operation.steps.order_by("position"):
        step.operation = operation  # one plan in memory, not one a step
        places[step.key], noted[step.key] = step.spec["arguments"].get("place"), step.checkpoint
    kept: Arguments = {}
    for key, checkpoint in noted.items():
        if places[key] == places[context.step_key]:
            kept |= checkpoint
    return kept


def _mark(context: StepContext) -> str:
    return f"operation {context.operation_id}"


def _note_what_runs(context: StepContext, service: EcsService, runs: Arguments, family: str = "") -> Arguments:
    """Write down, once and before any effect, what there is to go back to. StepError: not what was approved.

    family: in which one is to be registered; "" for that of the revision that runs.
    """
    if "former" in (kept := _kept(context)):
        return kept
    state = service.state()
    former = service.definition(state.definition)
    if former.shape != runs["shape"] or digest_in(former.image) not in ("", runs["digest"]):
        words = f"{short(former.arn)} is in service, which is not what the plan was made for. Ask for it again."
        raise StepError(words, permanent=True)
    own = family in ("", former.family)
    context.save_checkpoint(
        former=former.arn,
        family=family or former.family,
        newest=service.newest(family or former.family, former.revision if own else 0),
        before=state.deployment,
        event=state.newest_event,
    )
    context.log(f"{short(former.arn)} is in service, with {former.image}")
    return _kept(context)


def _is_registered(
    context: StepContext, *, place: Arguments, runs: Arguments, image: str, version: str, source: str = ""
) -> Seen:
    service = _service(context, place)
    first = "former" not in context.checkpoint
    kept = _note_what_runs(context, service, runs, family_of(source))
    found = None if first else service.registered_by(_mark(context), kept["family"], kept["newest"])
    if found is None:
        return Seen.NOT_DONE
    context.save_checkpoint(revision=found.arn)
    tell_once(context, REGISTERED, _source(source, runs), image=image, version=version)
    context.log(f"{short(found.arn)} is registered")
    return Seen.DONE


def _source(source: str, runs: Arguments) -> str:
    """What was copied, as the plan names it."""
    return source or str(runs["family"])


def _register(
    context: StepContext, *, place: Arguments, runs: Arguments, image: str, version: str, source: str = ""
) -> None:
    """source: the revision that is copied; "" for the one that runs."""
    service = _service(context, place)
    copied = service.definition(source or _kept(context)["former"])
    request = copied.request(image, {OPERATION: _mark(context), VERSION: version})
    context.check()
    revision = service.register(request)
    context.save_checkpoint(revision=revision)
    tell_once(context, REGISTERED, _source(source, runs), image=image, version=version)
    context.log(f"registered {short(revision)} with {image}")


def _wanted(context: StepContext, service: EcsService, to: str) -> str:
    """The ARN of the revision to bring into service."""
    kept = _kept(context)
    if to != NEW:
        return str(kept["former"])
    if "revision" in kept:
        return str(kept["revision"])
    found = service.registered_by(_mark(context), kept["family"], kept["newest"])
    if found is None:
        words = f"This operation has registered no revision of {kept['family']}. Ask for the deployment again."
        raise StepError(words, permanent=True)
    context.save_checkpoint(revision=found.arn)
    return found.arn


def _is_updated(
    context: StepContext, *, place: Arguments, runs: Arguments, to: str, balancers: list[Arguments] | None = None
) -> Seen:
    service = _service(context, place)
    if to == FORMER and "former" not in _kept(context):
        raise Unknown(f"Nobody noted which revision the {service.words} ran before. Look at it in ECS.")
    kept = _note_what_runs(context, service, runs)
    state = service.state()
    wanted = _wanted(context, service, to)
    there = state.definition == wanted and (to != SAME or state.deployment != kept["before"])
    if there and balancers in (None, list(state.balancers)):
        context.save_checkpoint(deployment=state.deployment)
        if "asked_after" in context.checkpoint:
            tell_once(context, UPDATED, place["service"], to=to)
        context.log(f"{short(wanted)} is in service or on its way")
        return Seen.DONE
    if state.definition not in (wanted, kept["former"], kept.get("revision")):
        words = f"The {service.words} was given {short(state.definition)} by somebody else. Look at it in ECS."
        raise Unknown(words)
    # We asked before, and the former revision runs: it was not taken, or it was taken back since.
    asked_after = context.checkpoint.get("asked_after", state.newest_event)
    if to != FORMER and (gone := _taken_back(state.news(asked_after))):
        raise StepError(f"ECS has taken {short(wanted)} back by itself: {gone}", permanent=True)
    return Seen.NOT_DONE


def _update(
    context: StepContext, *, place: Arguments, runs: Arguments, to: str, balancers: list[Arguments] | None = None
) -> None:
    """balancers: those that the service is to have; None: those that it has."""
    service = _service(context, place)
    wanted = _wanted(context, service, to)
    state = service.state()
    context.save_checkpoint(asked_after=state.newest_event)
    context.check()
    deployment = service.update(wanted, state.configuration, force=to == SAME, balancers=balancers)
    context.save_checkpoint(deployment=deployment)
    tell_once(context, UPDATED, place["service"], to=to)
    context.log(f"updated the {service.words} to {short(wanted)}: {deployment}")


def _nothing(context: StepContext, **arguments: Any) -> None:
    """Waiting has no effect."""


def _is_stable(context: StepContext, *, place: Arguments, poll: float, to: str) -> Verdict:
    """Look once. Pending: after waiting `poll` seconds. A call that fails for a passing reason is no verdict."""
    try:
        service = _service(context, place)
        state = service.state()
        verdict = _judge(context, state, to)
        if verdict.outcome == "passed" and to != FORMER:
            note_left(context, state, service.definition(state.definition))
    except StepError as error:
        if error.permanent:
            raise
        context.log(f"{error}; asking again", level="warning")
        context.wait(min(poll, max(0.0, context.remaining())))
        return pending(str(error))
    if verdict.outcome == "pending":
        context.wait(min(poll, max(0.0, context.remaining())))
    if verdict.outcome == "failed" or (verdict.outcome == "pending" and context.remaining() <= 0):
        _explain(context, service)
    return verdict


def _judge(context: StepContext, state: State, to: str) -> Verdict:
    kept = _kept(context)
    news = state.news(kept.get("event", state.newest_event))
    for message in news:
        context.log(message)
    rollout = str(state.primary.get("rolloutState", ""))
    said = state.in_words
    if said != context.checkpoint.get("said"):
        context.log(said)
        context.progress(min(state.arrived, state.desired), state.desired, "tasks")
    if news or said != context.checkpoint.get("said"):
        context.save_checkpoint(event=state.newest_event, said=said)
    if state.deployment != kept.get("deployment", state.deployment):
        return failed(_replaced(state, kept, news))
    # The step before may have been left out, or said to be done, by a person.
    wanted = kept.get("revision" if to == NEW else "former", "")
    if state.definition != wanted and (wanted or to == NEW):
        return failed(f"{short(state.definition)} is in service, not {to}")
    if rollout == "FAILED":
        return failed(f"the rollout failed: {state.primary.get('rolloutStateReason') or 'ECS does not say why'}")
    settled = not state.others and state.running == state.desired and state.pending == 0
    if settled and rollout in ("COMPLETED", ""):
        return passed(said)
    return pending(said)


def _replaced(state: State, kept: Arguments, news: list[str]) -> str:
    """Why our deployment is not the current one any more."""
    ours = next((one for one in state.others if one["id"] == kept["deployment"]), {})
    if state.definition not in (kept.get("former"), kept.get("revision")):
        return f"somebody else brought {short(state.definition)} into service"
    why = ours.get("rolloutStateReason") or _taken_back(news) or "its tasks did not stay up"
    return f"ECS went back to {short(state.definition)} by itself: {why}"


def _taken_back(news: list[str]) -> str:
    """The event in which ECS's circuit breaker speaks, "" when it did not."""
    return next((one for one in news if "deployment failed" in one or "rolling back" in one), "")


def _explain(context: StepContext, service: EcsService) -> None:
    """Say why tasks stopped, as far as one may ask."""
    try:
        for reason in service.why_stopped():
            context.log(f"a task stopped: {reason}", level="warning")
    except StepError as error:
        context.log(f"why tasks stopped cannot be asked: {error}", level="warning")


def _check_image(context: StepContext, *, place: Arguments, digest: str) -> None:
    """After a forced deployment: did the tag bring the release that was approved?"""
    service = _service(context, place)
    state = service.state()
    definition = service.definition(state.definition)
    found = service.running_digests(definition.chosen["name"])
    if not found and state.desired:
        raise StepError(f"No task of the {service.words} says yet which image it runs")
    if found - {digest}:
        words = f"{definition.image} brought {', '.join(sorted(found))}, not {digest}. Push the release to that tag,"
        raise StepError(f"{words} or deploy without force_new_deployment.", permanent=True)
    context.log(f"all tasks run {digest}")


def _check_health(
    context: StepContext, *, place: Arguments, url: str, checks: int, failures: int, interval: float
) -> None:
    """So many good answers in a row pass, so many bad ones in a row fail."""
    service = _service(context, place)
    if service.state().desired == 0:
        context.log(f"the {service.words} is scaled to 0 tasks: nobody can answer {url}", level="warning")
        return
    good = bad = 0
    while True:
        said, healthy = _ask(url)
        good, bad = (good + 1, 0) if healthy else (0, bad + 1)
        count = f"({good} of {checks})" if healthy else f"({bad} of {failures} bad)"
        context.log(f"GET {url} → {said} {count}", level="line" if healthy else "warning")
        context.progress(good, checks, "checks")
        if good >= checks:
            return
        if bad >= failures or context.remaining() <= interval:
            raise StepError(f"{url} is not healthy: {said}", permanent=True)
        context.wait(interval)


def _ask(url: str) -> tuple[str, bool]:
    try:
        answer = get(url)
    except NoAnswer as error:
        return str(error), False
    return f"{answer.status} in {answer.latency_ms:.0f} ms", answer.status == 200


STEPS = {
    "ecs.register": StepFunction(observe=_is_registered, act=_register),
    "ecs.update": StepFunction(observe=_is_updated, act=_update),
    "ecs.stable": StepFunction(act=_nothing, verify=_is_stable, poll=0.0),  # it waits by itself
    "ecs.image": StepFunction(act=_check_image),
    "ecs.check": StepFunction(act=_check_health),
}
