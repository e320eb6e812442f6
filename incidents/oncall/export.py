"""A schedule as an iCalendar file, at an address that a calendar program can read without signing in.

The address carries a key made of the person, the schedule and the person's password hash: a new password, or an
account that was closed, ends it. It opens this one calendar and nothing else.
"""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from icalendar import Calendar, Event, vCalAddress

from controlplane.accounts import address_keys
from controlplane.accounts.models import Person
from incidents.models import Schedule
from incidents.oncall.rotation import Rota, Shift, shifts, stretches

BACK = timedelta(days=35)
FORTH = timedelta(days=182)
SALT = "incidents.oncall.export"


def key_for(person: Person, schedule: Schedule) -> str:
    """What the address of this person's calendar of this schedule carries."""
    return address_keys.key_for(person, SALT, str(schedule.pk))


def holder_of(key: str, schedule: Schedule) -> Person | None:
    """Whose key it is; None when it opens nothing (any more)."""
    return address_keys.holder_of(key, SALT, str(schedule.pk))


def calendar_of(schedule: Schedule, rota: Rota, people: dict[str, Person], now: datetime, *, only: str = "") -> bytes:
    """Five weeks back and half a year ahead, an event a stretch. only: the username of whom it is about; "" for all."""
    calendar = Calendar()
    calendar.add("prodid", "-//Control plane//On call//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", f"On call: {schedule.name}")
    calendar.add("x-wr-timezone", schedule.time_zone)
    calendar.add("refresh-interval;value=duration", "PT1H")
    for shift in stretches(shifts(rota, now - BACK, now + FORTH)):
        if shift.person and only in ("", shift.person):
            calendar.add_component(_event(schedule, shift, people.get(shift.person), now))
    return bytes(calendar.to_ical())


def _event(schedule: Schedule, shift: Shift, person: Person | None, now: datetime) -> Event:
    event, name = Event(), person.title_name if person else shift.person
    event.add("uid", f"{schedule.slug}-{shift.person}-{shift.starts_at:%Y%m%dT%H%M%SZ}@on-call")
    event.add("dtstamp", now.astimezone(UTC).replace(microsecond=0))
    event.add("dtstart", shift.starts_at)
    event.add("dtend", shift.ends_at)
    event.add("summary", f"{name} on call: {schedule.name}")
    event.add("description", f"{shift.why} ({shift.words})" if shift.words else str(shift.why))
    event.add("url", f"{settings.SITE_URL}{schedule.get_absolute_url()}")
    if person is not None:
        attendee = vCalAddress(f"mailto:{person.email}" if person.email else f"urn:x-username:{person.username}")
        attendee.params["CN"] = person.username
        event.add("attendee", attendee, encode=False)
    return event
