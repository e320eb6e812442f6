"""Waiting for a cloud: a call that fails for a passing reason is no verdict, and nobody is asked too often."""

from collections.abc import Callable

from django.conf import settings

from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.models import Operation, Step
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext, Verdict, pending

# So often in a row nobody answers before a person is asked what is true.
UNANSWERED = 3


def pause(context: StepContext) -> None:
    """Until it makes sense to ask again; never past the step's deadline."""
    context.wait(max(0.0, min(settings.CLOUD_POLL_SECONDS, context.remaining())))


def patiently(context: StepContext, look: Callable[[], Verdict]) -> Verdict:
    """Look once; pending, after a pause, also when AWS does not answer or is slow. What it is told is said once."""
    try:
        verdict = look()
    except StepError as error:
        if error.permanent:
            raise
        verdict = pending(str(error))
    if verdict.outcome == "pending":
        say_once(context, verdict.reason)
        pause(context)
    return verdict


def surely(context: StepContext, look: Callable[[], Verdict], doubt: str) -> Verdict:
    """Look once, at something that must not be guessed. Raises `Unknown` when it cannot be seen.

    doubt: what nobody knows then, in words.
    """
    try:
        verdict = look()
    except StepError as error:
        missed = context.checkpoint.get("unanswered", 0) + 1
        if error.permanent or missed >= UNANSWERED or context.remaining() <= 0:
            context.save_checkpoint(unanswered=0)
            raise Unknown(f"{error} {doubt}") from error
        context.save_checkpoint(unanswered=missed)
        verdict = pending(str(error))
    if verdict.outcome == "pending":
        say_once(context, verdict.reason)
        if context.remaining() <= 0:
            raise Unknown(f"Not within its time: {verdict.reason}. {doubt}")
        pause(context)
    return verdict


def say_once(context: StepContext, words: str) -> None:
    """A line of the log, unless it was the last one of the step that was said so."""
    if context.checkpoint.get("said") != words:
        context.log(words)
        context.save_checkpoint(said=words)


def noted(context: StepContext, function: str, name: str) -> str:
    """What the steps of this operation with this function noted under a name, the latest; "" when none did."""
    found = ""
    operation = Operation.objects.only("plan").get(pk=context.operation_id)
    for step in operation.steps.order_by("position"):
        step.operation = operation  # one plan in memory, not one a step
        if step.spec["function"] == function:
            found = step.checkpoint.get(name, "") or found
    return str(found)


def was_begun(context: StepContext, key: str) -> bool:
    """Whether a step of this operation was ever tried: only then can it have changed anything."""
    return Step.objects.filter(operation=context.operation_id, key=key, attempt__gt=0).exists()


def mark(context: StepContext) -> str:
    """What everything that this operation makes is marked with."""
    return f"operation {context.operation_id}"


def mask(context: StepContext, keys: tuple[str, ...]) -> None:
    """Keep an account's keys out of the log."""
    if keys:
        context.mask(*keys)


def arguments_of(place: Arguments, **more: object) -> Arguments:
    """A step's arguments: where, and what else."""
    return {"place": place, **more}
