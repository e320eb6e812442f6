"""What earlier operations tell: how long one usually takes."""

from collections.abc import Iterable
from statistics import median

from controlplane.operations.models import Operation
from controlplane.operations.states import State

LOOK_BACK = 10


def usual_seconds(kind: str, scopes: Iterable[str]) -> float | None:
    """Median duration in seconds of the last ten good ones of the kind in these scopes, or None."""
    good = Operation.objects.filter(kind=kind, state=State.SUCCEEDED, scopes=sorted(scopes), started_at__isnull=False)
    times = good.order_by("-pk").values_list("started_at", "finished_at")[:LOOK_BACK]
    seconds = [(finished - started).total_seconds() for started, finished in times if finished and started]
    return median(seconds) if seconds else None
