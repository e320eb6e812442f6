"""The steps of the hosts driver that ask whether instances are well: one after its start, those that soak, and all."""

import time
from typing import NoReturn

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext, StepFunction, Verdict, passed
from environments.addresses import NoAnswer, get
from environments.balancers.base import Standing
from environments.drivers.hosts.engine import Container
from environments.drivers.hosts.serving import later, nothing, say_once, standing, stays_in
from environments.drivers.hosts.steps import engine_at, look, restarts_of, say_last_words


def ask(place: Arguments, check: Arguments) -> str:
    """What is wrong with the answers of an instance, in words; "" for nothing, or where it has no address."""
    if not place["address"]:
        return ""
    try:
        for path in filter(None, (check["health_path"], check["ready_path"])):
            answer = get(place["address"] + path)
            if answer.status != 200:
                return f"{path} answered {answer.status}"
        told = get(f"{place['address']}/version")
    except NoAnswer as error:
        return f"no answer ({error})"
    heard, version = str(told.json().get("version", "")) if told.status == 200 else "", check["version"]
    return f"{heard} answers, not {version}" if heard and version and heard != version else ""


def wrong_with(found: Container | None, digest: str, restarts: int) -> str:
    """What is wrong with a container that ought to run an image ("": whichever), for good; "" for nothing.

    restarts: those that are held against it.
    """
    if found is None:
        return "its container is gone"
    if digest and found.digest != digest:
        return f"{found.version or 'something else'} runs there"
    if restarts:
        return f"it was restarted {restarts} times (it ended with {found.end})"
    if not found.is_running:
        return f"it ended ({found.end})"
    return "its own health check says unhealthy" if found.health == "unhealthy" else ""


def _fatal(context: StepContext, place: Arguments, check: Arguments) -> str:
    """What is wrong with its container; then its last words are told."""
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
        # A plan that was frozen by an earlier version does not say it.
        restarts = restarts_of(context, found, early=check.get("early", False)) if found else 0
        wrong = wrong_with(found, check["digest"], restarts)
        if wrong:
            say_last_words(context, engine, place, found, check["lines"])
    return wrong


def _give_up(context: StepContext, place: Arguments, check: Arguments, words: str) -> NoReturn:
    """Raises StepError, once its last words are told."""
    with engine_at(context, place) as engine:
        found, _ = look(context, engine, place)
        say_last_words(context, engine, place, found, check["lines"])
    raise StepError(words, permanent=True)


def _check(context: StepContext, *, place: Arguments, check: Arguments, start_seconds: float) -> None:
    """So many good answers in a row pass. Bad ones count once it has answered well, or has had its time to start."""
    begun, up = time.monotonic(), False
    good = bad = 0
    while True:
        wrong = ask(place, check)
        good, bad, up = (0, bad + 1, up) if wrong else (good + 1, 0, True)
        if not up and time.monotonic() - begun < start_seconds:
            bad = 0
        _tell(context, place, check, wrong, (good, bad))
        if (wrong or good >= check["checks"]) and (fatal := _fatal(context, place, check)):
            raise StepError(f"{place['instance']}: {fatal}", permanent=True)
        if good >= check["checks"]:
            return
        if bad >= check["failures"] or context.remaining() <= check["interval"]:
            _give_up(context, place, check, f"{wrong or 'not healthy within its time'} at {place['instance']}")
        context.wait(check["interval"])


def _tell(context: StepContext, place: Arguments, check: Arguments, wrong: str, counts: tuple[int, int]) -> None:
    good, bad = counts
    if not wrong:
        context.log(f"{place['instance']}: healthy and ready ({good} of {check['checks']})")
        context.progress(good, check["checks"], "checks")
    elif bad:
        context.log(f"{place['instance']}: {wrong} ({bad} of {check['failures']} bad)", level="warning")
    else:
        say_once(context, f"{place['instance']}: not up yet, {wrong}")


def _soak(context: StepContext, *, instances: list[Arguments], check: Arguments, seconds: float) -> None:
    """For so long they serve and are asked; a worker that takes over begins anew."""
    end = time.monotonic() + seconds
    bad = dict.fromkeys((one["place"]["instance"] for one in instances), 0)
    context.log(f"soaking for {seconds:g} s")
    while True:
        for one in instances:
            _look_at(context, one, check, bad)
        left = end - time.monotonic()
        context.progress(round(seconds - max(0.0, left)), round(seconds), "seconds")
        if left <= 0 and not any(bad.values()):
            return
        context.wait(min(check["interval"], left) if left > 0 else check["interval"])


def _look_at(context: StepContext, one: Arguments, check: Arguments, bad: dict[str, int]) -> None:
    place, name = one["place"], one["place"]["instance"]
    wrong = ask(place, check) or _stands(one["balancer"])
    if fatal := _fatal(context, place, check):
        raise StepError(f"{name}: {fatal}", permanent=True)
    bad[name] = bad[name] + 1 if wrong else 0
    if wrong:
        context.log(f"{name}: {wrong} ({bad[name]} of {check['failures']} bad)", level="warning")
    if bad[name] >= check["failures"] or (wrong and context.remaining() <= check["interval"]):
        _give_up(context, place, check, f"{wrong} at {name} while it soaked")


def _stands(balancer: Arguments | None) -> str:
    """What the load balancer has against it, "" for nothing; one that is away for a moment says nothing."""
    if balancer is None:
        return ""
    try:
        seen = standing(balancer)
    except StepError as error:
        if error.permanent:
            raise
        return ""
    return "" if seen.standing is Standing.SERVING else f"the load balancer calls it {seen.standing.value}"


# --- before and after ---------------------------------------------------------------------------------


def _has_room(
    context: StepContext,
    *,
    leave: list[Arguments],
    stay: list[Arguments],
    most: int,
    check: Arguments,
    poll: float,
    only_new: bool = False,
) -> Verdict:
    """Whether those that are to leave may: with them no more than `most` are away. Who is away costs nothing."""

    def away(those: list[Arguments]) -> list[str]:
        return [one["place"]["instance"] for one in those if ask(one["place"], check) or _stands(one["balancer"])]

    leaving = [one for one in leave if not stays_in(context, one["place"], only_new=only_new)]
    cost = len(leaving) - len(away(leaving))
    if not cost:
        return passed()
    others = away(stay)
    if cost + len(others) <= most:
        return passed()
    words = f"{', '.join(others) or 'nobody'} away already, and no more than {most} may be at once"
    say_once(context, words, level="warning")
    return later(context, words, poll)


def _verify(context: StepContext, *, instances: list[Arguments], check: Arguments) -> None:
    for number, one in enumerate(instances, start=1):
        name = one["place"]["instance"]
        if fatal := _fatal(context, one["place"], check):
            raise StepError(f"{name}: {fatal}", permanent=True)
        if wrong := ask(one["place"], check) or _stands(one["balancer"]):
            raise StepError(f"{name}: {wrong}")
        context.progress(number, len(instances), "instances")
    context.log(f"all {len(instances)} instances run {check['version']} and serve")


STEPS = {
    "hosts.room": StepFunction(act=nothing, verify=_has_room, poll=0.0),  # it waits by itself
    "hosts.check": StepFunction(act=_check),
    "hosts.soak": StepFunction(act=_soak),
    "hosts.verify": StepFunction(act=_verify),
}
