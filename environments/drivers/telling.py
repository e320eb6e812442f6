"""Telling of an effect once, whichever attempt brought it about and whoever died in between.

`intend` right before the effect, `tell_once` right after it, and in `observe` where the effect is found and was meant:
what was there before this step is nothing that it did. A step with several effects names each as its `part`.
"""

from typing import Any

from controlplane.operations.registry import StepContext

STARTED, STOPPED, REMOVED = "started", "stopped", "removed"
DEREGISTERED, REGISTERED = "deregistered", "registered"


def intend(context: StepContext, part: str = "", **kept: Any) -> None:
    """Whoever finds the effect there from now on knows that it is ours. Right before it.

    kept: what can only be seen before it, for whoever tells of it; it is found in the checkpoint.
    """
    if not is_meant(context, part):
        context.save_checkpoint(**kept, **{_key("meant", part): True})
    context.check()


def is_meant(context: StepContext, part: str = "") -> bool:
    """Whether an attempt at this step was about to bring it about."""
    return bool(context.checkpoint.get(_key("meant", part)))


def tell_once(context: StepContext, what: str, subject: str, *, part: str = "", **facts: Any) -> None:
    """Write an effect down, also when the attempt that brought it about could not."""
    told = _key("told", part)
    if not context.checkpoint.get(told):
        with context.together():
            context.did(what, subject, **facts)
            context.save_checkpoint(**{told: True})


def tell_if_meant(context: StepContext, what: str, subject: str, *, part: str = "", **facts: Any) -> None:
    """The same, where the effect was found: ours, or there before."""
    if is_meant(context, part):
        tell_once(context, what, subject, part=part, **facts)


def _key(name: str, part: str) -> str:
    return f"{name} {part}" if part else name
