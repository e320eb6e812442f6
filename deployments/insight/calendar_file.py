"""Deployments and freezes as an iCalendar file (RFC 5545)."""

from collections.abc import Iterable
from datetime import UTC, datetime

from django.conf import settings
from icalendar import Calendar, Event

from controlplane.web.tones import Tone
from deployments.insight.calendar import Entry, Freeze


def file_of(entries: Iterable[Entry], freezes: Iterable[Freeze], now: datetime) -> bytes:
    """An event each; what was cancelled, or will not be, is said in its words."""
    calendar = Calendar()
    calendar.add("prodid", "-//Control plane//Deployments//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", "Deployments")
    calendar.add("x-wr-timezone", "UTC")
    calendar.add("refresh-interval;value=duration", "PT1H")
    for entry in entries:
        calendar.add_component(_deployment(entry, now))
    for freeze in freezes:
        calendar.add_component(_freeze(freeze, now))
    return bytes(calendar.to_ical())


def _deployment(entry: Entry, now: datetime) -> Event:
    event = Event()
    event.add("uid", f"operation-{entry.operation}@deployments")
    event.add("dtstamp", now.astimezone(UTC).replace(microsecond=0))
    event.add("dtstart", entry.began)
    event.add("dtend", max(entry.began, entry.until))
    event.add("summary", f"{entry.title}: {entry.word}")
    event.add("description", entry.reason)
    event.add("url", f"{settings.SITE_URL}{entry.url}")
    event.add("status", "CANCELLED" if entry.is_off else "TENTATIVE" if entry.tone is Tone.WAIT else "CONFIRMED")
    event.add("transp", "TRANSPARENT")  # it keeps nobody busy
    return event


def _freeze(freeze: Freeze, now: datetime) -> Event:
    event = Event()
    event.add("uid", f"{freeze.key}-{freeze.began:%Y%m%dT%H%M%SZ}@deployments")
    event.add("dtstamp", now.astimezone(UTC).replace(microsecond=0))
    event.add("dtstart", freeze.began)
    event.add("dtend", freeze.ended)
    event.add("summary", f"{freeze.environment.name} is closed: {freeze.reason}")
    event.add("url", f"{settings.SITE_URL}{freeze.environment.get_absolute_url()}")
    event.add("transp", "TRANSPARENT")
    return event
