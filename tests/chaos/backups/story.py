"""What is told of a round that did not end as it should."""

from typing import TYPE_CHECKING

from backups.models import Restore
from controlplane.embedded.processes import look
from controlplane.operations.models import Event, Operation
from tests.chaos.backups.bad_luck import children
from tests.chaos.faults import holder

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Round


def what_is_at_it(operation: Operation) -> str:
    """The worker that holds it, and its programs."""
    pid = holder(operation)
    process = look(pid) if pid else None
    programs = " ".join(f"{name}({number})" for number, name in children(pid)) if process else ""
    return f"    held by {operation.worker or 'nobody'}, fence {operation.fence}: {process} {programs}"


def story(current: "Round") -> str:
    """All there is to know of a round."""
    events = Event.objects.filter(operation__in=current.operations).order_by("at", "seq")
    restore = Restore.objects.filter(operation=current.operation).first()
    moment = f", to {restore.moment}" if restore and restore.moment else ""
    luck = f"{current.luck.name}, struck {current.struck}"
    return "\n".join(
        [
            f"    round {current.number}, {current.lane.database}{moment}: {luck}",
            *(f"    {event.at:%H:%M:%S.%f} {event.operation_id} {event.kind:8} {event.text}" for event in events),
        ]
    )
