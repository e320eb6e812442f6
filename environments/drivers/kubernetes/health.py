"""The health check after a rollout: the URL that people use, asked until it is good or cannot become good."""

from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext, StepFunction, Verdict, failed, passed, pending
from environments.addresses import NoAnswer, get
from environments.drivers.kubernetes.api import Object
from environments.drivers.kubernetes.former import was_left
from environments.drivers.kubernetes.objects import api_at, guarded
from environments.drivers.kubernetes.watch import nothing, pause, say_once


def _is_well(
    context: StepContext, *, place: Arguments, url: str, may_be_stopped: bool, back: bool, **how: Any
) -> Verdict:
    """may_be_stopped: with no pods asked for, nobody can answer. back: on the way back; see `watch`.

    Either passes without asking, and says why.
    """
    try:
        found = _found(context, place)
    except StepError as error:
        if error.permanent:
            raise
        say_once(context, f"{error}; asking again")
        pause(context, None, None, how["interval"])
        return pending(str(error))
    if back and was_left(context, place, found):
        return _not_asked(context, f"{place['name']} was not changed by this operation, so {url} is not asked")
    if may_be_stopped and found is not None and found["spec"].get("replicas", 1) == 0:
        return _not_asked(context, f"{place['name']} is scaled to 0 pods: nobody can answer {url}")
    return _answers(context, url=url, **how)


def _found(context: StepContext, place: Arguments) -> Object | None:
    with api_at(context, place) as api:
        return guarded(context, api.find("Deployment", place["name"]))


def _not_asked(context: StepContext, words: str) -> Verdict:
    context.log(words, level="warning")
    return passed(words)


def _answers(context: StepContext, *, url: str, checks: int, failures: int, interval: float) -> Verdict:
    """So many good answers in a row pass, so many bad ones in a row fail."""
    try:
        answer = get(url)
        said, well = f"{answer.status} in {answer.latency_ms:.0f} ms", answer.status == 200
    except NoAnswer as error:
        said, well = str(error), False
    good = context.checkpoint.get("good", 0) + 1 if well else 0
    bad = 0 if well else context.checkpoint.get("bad", 0) + 1
    context.save_checkpoint(good=good, bad=bad)
    context.progress(good, checks, "checks")
    words = f"GET {url} → {said}"
    context.log(f"{words} ({good} of {checks})" if well else f"{words} ({bad} of {failures} bad)")
    if good >= checks:
        return passed(words)
    if bad >= failures:
        return failed(f"{url} is not healthy: {said}")
    context.wait(min(interval, max(0.0, context.remaining())))
    return pending(words)


STEPS = {"kubernetes.check": StepFunction(act=nothing, verify=_is_well, poll=0.0)}
