"""Who is on call right now, for those who page; and who is next, for those who look."""

from datetime import datetime, timedelta

from controlplane.accounts.models import Person
from incidents.oncall.rotation import Shift, shifts, who
from incidents.oncall.rows import rota_of

INSTANT = timedelta(microseconds=1)
# How far ahead one looks for who is next.
AHEAD = timedelta(days=62)


def on_call(schedule: str, at: datetime) -> list[Person]:
    """The people who are on call by a schedule at a time; nobody when there is no such schedule, or a gap in it.

    Somebody who is not active any more is passed over for the next of the layer. Five queries at most, no locks.
    """
    rota = rota_of(schedule, at, at + INSTANT)
    person = who(rota, at) if rota else ""
    return list(Person.objects.filter(username=person, is_active=True)) if person else []


def next_shifts(schedule: str, since: datetime, until: datetime | None = None) -> list[Shift]:
    """The shifts of a span that begins now, the running one first and whole only from now on; [] for no schedule."""
    until = until or since + AHEAD
    rota = rota_of(schedule, since, until)
    return shifts(rota, since, until) if rota else []
