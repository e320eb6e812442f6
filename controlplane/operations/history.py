"""What earlier operations tell: how long one usually takes."""

from collections.abc import Iterable
from statistics import median

from controlplane.operations.models import Operation
from controlplane.operations.states import State

LOOK_BACK = 10


def usual_seconds(kind: str, lock_names: Iterable[str]) -> float | None:
    """Median duration in seconds of the last ten good ones of the kind that held the same locks, or None."""
    held = sorted(lock_names)
    good = Operation.objects.filter(kind=kind, state=State.SUCCEEDED, lock_names=held, started_at__isnull=False)
    times = good.order_by("-pk").values_list("started_at", "finished_at")[:LOOK_BACK]
    seconds = [(finished - started).total_seconds() for started, finished in times if finished and started]
    return median(seconds) if seconds else None
