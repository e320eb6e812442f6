"""What the tests of escalations share: the guide's matrix, people to reach, and a way to let time pass."""

from datetime import timedelta

from django.db.models import F

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from incidents.lifecycle import open_incident
from incidents.models import (
    Channel,
    ContactMethod,
    Delivery,
    EscalationLevel,
    EscalationPolicy,
    Incident,
    Level,
    Page,
    Severity,
)

WHO = SYSTEM("test")
# The guide's escalation matrix: level, role, minutes.
MATRIX = ((1, "On-Call Engineer", 0), (2, "Team Lead", 15), (3, "Engineering Manager", 30), (4, "CTO", 60))


def reachable(person: Person, **addresses: str) -> Person:
    """The person, with addresses by kind of channel; every channel is configured."""
    for kind, address in addresses.items():
        ContactMethod.objects.create(person=person, kind=kind, address=address)
        Channel.objects.get_or_create(kind=kind)
    return person


def matrix(people: list[Person], channels: list[str], *, repeats: int = 0) -> EscalationPolicy:
    """The guide's levels, one person each, for P1 and P2."""
    policy = EscalationPolicy.objects.create(slug="guide", name="The guide's", severities=["P1", "P2"], repeats=repeats)
    for (number, role, minutes), person in zip(MATRIX, people, strict=False):
        EscalationLevel.objects.create(
            policy=policy, number=number, role=role, after_seconds=minutes * 60,
            targets=[{"person": person.username}], channels=channels,
        )  # fmt: skip
    return policy


def opened(severity: Severity = Severity.P1, **fields: object) -> Incident:
    """An incident of the installation, just opened."""
    incident, _ = open_incident(WHO, title="the API answers 503", severity=severity, environments=[])
    return incident


def pass_time(incident: Incident, **span: float) -> None:
    """As if the incident had been open for so much longer."""
    ago = timedelta(**span)
    Incident.objects.filter(pk=incident.pk).update(opened_at=F("opened_at") - ago)
    Level.objects.filter(incident=incident).update(due_at=F("due_at") - ago)
    Page.objects.filter(incident=incident, next_way_at__isnull=False).update(next_way_at=F("next_way_at") - ago)


def states(incident: Incident) -> dict[int, str]:
    """The state of each level of the first round, by number."""
    return dict(Level.objects.filter(incident=incident, round=1).values_list("number", "state"))


def paged(incident: Incident) -> list[tuple[str, str]]:
    """(person, channel) of every page that was queued, in order."""
    rows = Delivery.objects.filter(incident=incident, purpose=Delivery.Purpose.PAGE).order_by("pk")
    return [(row.page.person_name, row.channel) for row in rows.select_related("page") if row.page]


def said(incident: Incident) -> list[str]:
    """The timeline's words, in order."""
    return list(incident.timeline.order_by("seq").values_list("text", flat=True))
