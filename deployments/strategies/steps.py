"""The steps of strategies: weights, whether a colour is well, and watching it after the switch."""

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending
from deployments.strategies.asking import balancer_named, members_of
from deployments.strategies.blue_green import MARGIN_SECONDS, READY, SOAK
from deployments.strategies.canary import JUDGE
from deployments.strategies.judge import Side, percent
from deployments.strategies.judging import JUDGING, UNWELL
from deployments.strategies.sources import from_kept, kept, reader, since
from deployments.strategies.weights import WEIGH
from environments.balancers.base import Standing

WELL = (Standing.SERVING,)


# --- weights ------------------------------------------------------------------------------------------


def _differs(balancer: Arguments, members: Sequence[Arguments], weights: Mapping[str, int]) -> str:
    """Which instance has another weight than it should have, in words; "" for none."""
    kind, settings = balancer_named(balancer)
    for member in members_of(members):
        found = kind.look(settings, member).weight
        if found != weights[member.name]:
            return f"{member.name} has {'no weight' if found is None else f'the weight {found}'}"
    return ""


def _is_weighed(
    context: StepContext, *, balancer: Arguments, members: list[Arguments], weights: dict[str, int]
) -> Seen:
    if _differs(balancer, members, weights):
        return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        _tell(context, weights)
    return Seen.DONE


def _weigh(context: StepContext, *, balancer: Arguments, members: list[Arguments], weights: dict[str, int]) -> None:
    kind, settings = balancer_named(balancer)
    context.save_checkpoint(meant=True)
    context.check()
    kind.weigh(settings, {member: weights[member.name] for member in members_of(members)})
    _tell(context, weights)


def _tell(context: StepContext, weights: Mapping[str, int]) -> None:
    if context.checkpoint.get("told"):
        return
    with context.together():
        for name, weight in weights.items():
            context.did("weighed", name, weight=weight)
        context.save_checkpoint(told=True)
    context.log("weights: " + ", ".join(f"{name} {weight}" for name, weight in weights.items()))


def _has_weights(
    context: StepContext, *, balancer: Arguments, members: list[Arguments], weights: dict[str, int]
) -> Verdict:
    words = _differs(balancer, members, weights)
    return pending(words) if words else passed()


# --- blue/green ---------------------------------------------------------------------------------------


def _nothing(context: StepContext, **arguments: Any) -> None:
    """Looking has no effect."""


def _is_ready(context: StepContext, *, balancer: Arguments, members: list[Arguments]) -> Verdict:
    """One that does not answer is asked again."""
    try:
        words = _unwell(balancer, members)
    except StepError as error:
        if error.permanent:
            raise
        words = str(error)
    return pending(words) if words else passed()


def _unwell(balancer: Arguments, members: Sequence[Arguments]) -> str:
    """Who is not well, in words; "" for nobody."""
    kind, settings = balancer_named(balancer)
    seen = [(member.name, kind.look(settings, member)) for member in members_of(members)]
    return ", ".join(f"{name} is {one.standing} ({one.words})" for name, one in seen if one.standing not in WELL)


def _soak(
    context: StepContext,
    *,
    balancer: Arguments,
    members: list[Arguments],
    seconds: float,
    interval: float,
    errors_percent: float,
    least_requests: int,
) -> None:
    """Until its time is over and the last look was good; it fails when somebody is unwell for several looks, when too
    many requests fail, or when nobody can look for so long after its time.
    """
    unwell, blind = 0, ""
    while True:
        try:
            words = _unwell(balancer, members)
            got = _count(context, balancer, members)
        except StepError as error:
            if error.permanent:
                raise
            context.log(f"no numbers: {error}", level="warning")
            blind = str(error)
        else:
            blind = ""
            unwell = unwell + 1 if words else 0
            if unwell >= UNWELL:
                raise StepError(words, permanent=True)
            if got.requests >= least_requests and 100 * got.errors > errors_percent * got.requests:
                failed = f"{percent(got.errors / got.requests)} of {got.requests} requests failed since the switch"
                raise StepError(f"{failed}, and {errors_percent:g} % may", permanent=True)
        left = context.remaining() - MARGIN_SECONDS
        context.progress(round(min(seconds, max(0.0, seconds - left))), round(seconds), "seconds")
        if left <= 0 and not unwell and not blind:
            return
        if left <= -MARGIN_SECONDS / 2:
            raise StepError(f"nobody could see how it went: {blind or 'it was not well to the end'}", permanent=True)
        context.wait(min(interval, left) if left > 0 else interval)


def _count(context: StepContext, balancer: Arguments, members: list[Arguments]) -> Side:
    """What all of them got since the step began, whoever looks."""
    names = [one["name"] for one in members]
    now = reader("balancer", balancer, members, "")()
    before = from_kept(context.checkpoint.get("counters", {}))
    came = since(before, now, names, names).canary
    requests = context.checkpoint.get("requests", 0) + came.requests
    errors = context.checkpoint.get("errors", 0) + came.errors
    context.save_checkpoint(counters=kept({**before, **now}), requests=requests, errors=errors)
    return Side(requests, errors)


STEPS: dict[str, StepFunction] = {
    WEIGH: StepFunction(observe=_is_weighed, act=_weigh, verify=_has_weights, poll=0.2),
    JUDGE: JUDGING,
    READY: StepFunction(act=_nothing, verify=_is_ready, poll=0.5),
    SOAK: StepFunction(act=_soak),
}
