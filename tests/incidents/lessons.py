"""Incidents that are over, for the tests of what is learned from them."""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from incidents import lifecycle, timeline
from incidents.lessons import documents
from incidents.models import Incident, Postmortem, Severity
from incidents.timeline import Kind, NewEntry


def opened(title: str = "the API answers 503", **values: Any) -> Incident:
    """A P1 of production that is open."""
    given = {"title": title, "severity": Severity.P1, "environments": ["production"], **values}
    return lifecycle.open_incident(SYSTEM("alert"), **given)[0]


def resolved(person: Person, *, open_for: timedelta = timedelta(minutes=30), **values: Any) -> Incident:
    """One that was opened so long ago, acknowledged and resolved just now."""
    incident = opened(**values)
    Incident.objects.filter(pk=incident.pk).update(opened_at=Now() - open_for)
    who = Actor(person).who
    lifecycle.acknowledge(incident.pk, who)
    lifecycle.resolve(incident.pk, who, "rolled back to 1.4.0. It answers again.")
    return Incident.objects.get(pk=incident.pk)


def written(person: Person, **values: Any) -> Postmortem:
    """The post-mortem of a resolved incident, as drafted."""
    incident = resolved(person, **values)
    documents.draft_due()
    return Postmortem.objects.get(incident=incident)


def add(incident: Incident, kind: Kind, text: str, **values: object) -> int:
    """Another entry of its timeline; returns its number."""
    with transaction.atomic():
        given = {"kind": kind, "text": text, **values}
        (entry,) = timeline.append(timeline.locked(incident.pk), SYSTEM("test"), NewEntry(**given))  # type: ignore[arg-type]
    return entry.seq
