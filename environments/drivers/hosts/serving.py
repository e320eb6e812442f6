"""The steps of the hosts driver that tell the load balancer who gets requests, and wait until that is so.

Nothing here sleeps in the hope that something has happened: a drain has ended when the load balancer says that nothing
is open any more, and an instance serves when it says that it does.
"""

from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed, pending
from environments.balancers import BALANCERS
from environments.balancers.base import Balancer, Member, Standing
from environments.balancers.base import Seen as Stands
from environments.drivers.hosts.steps import engine_at, is_new, look
from environments.drivers.telling import DEREGISTERED, REGISTERED, intend, tell_once

KNOWN = (Standing.SERVING, Standing.STARTING, Standing.UNHEALTHY)
IN_SOMEHOW = (*KNOWN, Standing.ELSEWHERE)


def balancer_at(balancer: Arguments) -> tuple[Balancer, Arguments, Member]:
    """The load balancer that a plan names, its settings, and the member. Raises StepError when there is none."""
    if balancer["kind"] not in BALANCERS:
        raise StepError(f"There is no load balancer of the kind {balancer['kind']}.", permanent=True)
    return BALANCERS[balancer["kind"]], balancer["settings"], Member(**balancer["member"])


def standing(balancer: Arguments) -> Stands:
    """How the member stands. Raises StepError."""
    kind, settings, member = balancer_at(balancer)
    return kind.look(settings, member)


# --- out of the balancer, and in again ----------------------------------------------------------------


def stays_in(context: StepContext, place: Arguments, *, only_new: bool) -> bool:
    """Going back, what this operation did not bring stays where it is."""
    if not only_new:
        return False
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
    return not is_new(context, found)


def _is_out(context: StepContext, *, place: Arguments, balancer: Arguments, only_new: bool) -> Seen:
    if stays_in(context, place, only_new=only_new):
        return Seen.DONE
    if standing(balancer).standing in IN_SOMEHOW:
        return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        tell_once(context, DEREGISTERED, place["instance"])
    return Seen.DONE


def _take_out(context: StepContext, *, place: Arguments, balancer: Arguments, only_new: bool) -> None:
    kind, settings, member = balancer_at(balancer)
    intend(context)
    kind.remove(settings, member)
    tell_once(context, DEREGISTERED, place["instance"])
    context.log(f"{place['instance']}: deregistered, it gets nothing new")


def nothing(context: StepContext, **arguments: Any) -> None:
    """Waiting has no effect."""


def _is_drained(
    context: StepContext, *, place: Arguments, balancer: Arguments, only_new: bool, cut: bool, poll: float
) -> Verdict:
    """Seen, not slept: until nothing is open any more. cut: at the deadline what is still open is given up."""
    if stays_in(context, place, only_new=only_new):
        return passed()
    try:
        seen = standing(balancer)
    except StepError as error:
        return _unheard(context, error, poll)
    if seen.standing is Standing.ABSENT or (seen.standing is Standing.DRAINING and seen.open == 0):
        context.log(f"{place['instance']}: drained")
        return passed()
    words = f"{place['instance']}: {_open(seen)}"
    say_once(context, words)
    if cut and context.remaining() <= poll * 2:
        context.log(f"{words}, and its time is over: cut", level="warning")
        return passed()
    return later(context, words, poll)


def _open(seen: Stands) -> str:
    said = f"still {seen.standing.value}" if seen.open is None else f"{seen.open} still open"
    return f"{said} ({seen.words})" if seen.words else said


def _is_in(context: StepContext, *, place: Arguments, balancer: Arguments, only_stranger: bool = False) -> Seen:
    """only_stranger: nothing comes in but what somebody else started, if it is still there."""
    if only_stranger and not _stranger_is_there(context, place):
        return Seen.DONE
    if standing(balancer).standing not in KNOWN:
        return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        tell_once(context, REGISTERED, place["instance"])
    return Seen.DONE


def _stranger_is_there(context: StepContext, place: Arguments) -> bool:
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
    return found is not None and found.id == place["stranger"]


def _put_in(context: StepContext, *, place: Arguments, balancer: Arguments, only_stranger: bool = False) -> None:
    kind, settings, member = balancer_at(balancer)
    intend(context)
    kind.add(settings, member)
    tell_once(context, REGISTERED, place["instance"])
    context.log(f"{place['instance']}: registered")


def _is_serving(context: StepContext, *, place: Arguments, balancer: Arguments, poll: float) -> Verdict:
    try:
        seen = standing(balancer)
    except StepError as error:
        return _unheard(context, error, poll)
    if seen.standing is Standing.SERVING:
        context.log(f"{place['instance']}: the load balancer finds it healthy")
        return passed()
    words = f"{place['instance']} is {seen.standing.value}" + (f" ({seen.words})" if seen.words else "")
    say_once(context, words)
    return later(context, words, poll)


def _unheard(context: StepContext, error: StepError, poll: float) -> Verdict:
    """A load balancer that does not answer for a moment is no verdict."""
    if error.permanent:
        raise error
    say_once(context, str(error), level="warning")
    return later(context, str(error), poll)


def later(context: StepContext, words: str, poll: float) -> Verdict:
    """Pending, once it has waited for so long."""
    context.wait(max(0.0, min(poll, context.remaining())))
    return pending(words)


def say_once(context: StepContext, words: str, *, level: str = "line") -> None:
    """A line, unless it was the step's last of these."""
    if context.checkpoint.get("said") != words:
        context.log(words, level=level)
        context.save_checkpoint(said=words)


STEPS = {
    "hosts.deregister": StepFunction(observe=_is_out, act=_take_out),
    "hosts.drain": StepFunction(act=nothing, verify=_is_drained, poll=0.0),
    "hosts.register": StepFunction(observe=_is_in, act=_put_in),
    "hosts.serving": StepFunction(act=nothing, verify=_is_serving, poll=0.0),
}
