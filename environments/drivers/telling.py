"""Telling of an effect once, whichever attempt brought it about and whoever died in between.

`intend` right before the effect, `tell_once` right after it, and in `observe` where the effect is found and was meant:
what was there before this step is nothing that it did.
"""

from typing import Any

from controlplane.operations.registry import StepContext

STARTED, STOPPED = "started", "stopped"
DEREGISTERED, REGISTERED = "deregistered", "registered"


def intend(context: StepContext) -> None:
    """Whoever finds the effect there from now on knows that it is ours. Right before it."""
    if not context.checkpoint.get("meant"):
        context.save_checkpoint(meant=True)
    context.check()


def tell_once(context: StepContext, what: str, subject: str, **facts: Any) -> None:
    """Write an effect down, also when the attempt that brought it about could not."""
    if not context.checkpoint.get("told"):
        with context.together():
            context.did(what, subject, **facts)
            context.save_checkpoint(told=True)


def tell_if_meant(context: StepContext, what: str, subject: str, **facts: Any) -> None:
    """The same, where the effect was found: ours, or there before."""
    if context.checkpoint.get("meant"):
        tell_once(context, what, subject, **facts)
