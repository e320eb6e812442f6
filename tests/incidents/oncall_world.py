"""A rotation of Alice and Bob for the tests of on-call: weekly, Mondays at 09:00 in Berlin, from 5 January 2026."""

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from incidents.models import Channel, ContactMethod, EscalationLevel, EscalationPolicy, Layer, Schedule
from incidents.oncall.rotation import Shift, shifts
from incidents.oncall.rows import rota_of

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)


def at(text: str) -> datetime:
    """A time on the clocks of Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def primary(*people: str, slug: str = "primary") -> Schedule:
    """The schedule."""
    schedule = Schedule.objects.create(slug=slug, name=slug.title(), time_zone="Europe/Berlin")
    layer(schedule, 1, *(people or ("alice", "bob")))
    return schedule


def layer(schedule: Schedule, position: int, *people: str, **fields: Any) -> Layer:
    """A layer, weekly unless fields say otherwise."""
    wanted = {"name": f"layer {position}", "starts_on": date(2026, 1, 5), "handover": time(9), **fields}
    return Layer.objects.create(schedule=schedule, position=position, people=list(people), **wanted)


def matrix(*channels: str) -> EscalationPolicy:
    """L1 is the schedule, by these channels, which are configured."""
    for kind in channels:
        Channel.objects.get_or_create(kind=kind)
    policy = EscalationPolicy.objects.create(slug="matrix", name="The matrix", severities=["P1"])
    EscalationLevel.objects.create(
        policy=policy, number=1, role="On-Call Engineer", after_seconds=0, targets=[{"schedule": "primary"}],
        channels=list(channels),
    )  # fmt: skip
    return policy


def reachable(*people: Person, kind: str = "sms") -> None:
    """Each gets an address."""
    for number, person in enumerate(people):
        ContactMethod.objects.create(person=person, kind=kind, address=f"+120255501{number:02}")


def actor(person: Person) -> Actor:
    """Somebody at the browser."""
    return Actor(person)


def coming(schedule: Schedule, person: str, *, which: int = 0) -> Shift:
    """A whole shift of somebody that is still to come."""
    now = database_time()
    rota = rota_of(schedule.slug, now, now + 12 * WEEK)
    assert rota
    found = [one for one in shifts(rota, now, now + 12 * WEEK) if one.person == person and one.starts_at > now]
    return found[which]


def drawn(schedule: Schedule, since: datetime, until: datetime) -> list[tuple[str, datetime]]:
    """Who begins when in a span."""
    rota = rota_of(schedule.slug, since, until)
    assert rota
    return [(one.person, one.starts_at) for one in shifts(rota, since, until)]
