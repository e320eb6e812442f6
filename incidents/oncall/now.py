"""Who is on call right now, for those who page."""

from datetime import datetime

from controlplane.accounts.models import Person


def on_call(schedule: str, at: datetime) -> list[Person]:
    """The people who are on call by a schedule at a time; nobody when there is no such schedule, or a gap in it."""
    raise LookupError(schedule, at)
