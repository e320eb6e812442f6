"""What the tests of the auditor share: a matrix, providers that take everything, time that passes, and a look."""

from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from controlplane.clock.models import Beat
from environments.models import Environment
from incidents import holds, lifecycle
from incidents.auditor.chain import Chains
from incidents.auditor.looks import look
from incidents.channels import outcomes
from incidents.escalation import clock
from incidents.intake import grouping, handling
from incidents.models import (
    Channel,
    ContactMethod,
    Delivery,
    EscalationLevel,
    EscalationPolicy,
    Incident,
    Page,
    Postmortem,
    Severity,
)
from tests.people import person

TEST = SYSTEM("test")
LOOK_SECONDS = 10.0

# Every time there is in a row, so that all of it may be moved back; the timeline's own are never looked at alone.
SHIFTED = """
    SELECT table_name, string_agg(format('%1$I = %1$I - make_interval(secs => $1)', column_name), ', ')
    FROM information_schema.columns
    WHERE data_type = 'timestamp with time zone' AND table_schema = current_schema()
      AND table_name IN ('incidents_incident', 'incidents_level', 'incidents_page', 'incidents_delivery',
        'incidents_rawalert', 'incidents_alert', 'incidents_rulestate',
        'incidents_breakglass', 'incidents_postmortem', 'incidents_silence',
        'clock_beat')
    GROUP BY table_name
"""


def pass_time(seconds: float) -> None:
    """As if so many seconds had gone by: every row is so much older."""
    with connection.cursor() as cursor:
        cursor.execute(SHIFTED)
        for table, columns in cursor.fetchall():
            cursor.execute(f"UPDATE {table} SET {columns.replace('$1', str(float(seconds)))}")


@dataclass
class World:
    """An environment, three people of a matrix, and an auditor with its memory."""

    production: Environment
    people: list[Person]
    chains: Chains = field(default_factory=Chains)
    clocks_run: bool = True

    def open(self, severity: Severity = Severity.P1, title: str = "The shop is down") -> Incident:
        """An incident of the matrix, just now."""
        return lifecycle.open_incident(
            TEST, title=title, severity=severity, environments=[self.production.slug], group_key=title
        )[0]

    def look(self) -> dict[str, str]:
        """What the auditor finds, by key; in the test's own transaction."""
        raw = cast("psycopg.Connection[Any]", connection.connection)
        if self.clocks_run:
            Beat.objects.update_or_create(name="clock", defaults={"beat_at": Now()})
        return look(raw, self.chains).found

    def engine(self) -> None:
        """A healthy engine gets to everything that is due."""
        handling.handle_stored()
        grouping.group_due()
        while clock.fire_due() + clock.follow_up():
            pass
        clock.tell_of_silence()
        holds.end_broken()
        accept()
        for incident in Incident.objects.filter(state="resolved", postmortem=None):
            Postmortem.objects.create(incident=incident)


def accept(**which: Any) -> int:
    """The providers take what is in the outbox; what follows is the sender's own doing."""
    taken = list(Delivery.objects.filter(state="queued", next_at__lte=Now(), **which).select_related("page"))
    for delivery in taken:
        Delivery.objects.filter(pk=delivery.pk).update(state="sending", sender="test", attempts=F("attempts") + 1)
        outcomes.settle([outcomes.Outcome(outcomes.Claim(delivery, "test"), delivery.key)])
    return len(taken)


def deliver(page: Page) -> None:
    """A receipt comes: it has arrived on the telephone."""
    Page.objects.filter(pk=page.pk).update(state="delivered", delivered_at=Now(), next_way_at=None)
    Delivery.objects.filter(page=page, state="accepted").update(state="delivered", delivered_at=Now())


def build() -> World:
    """The guide's matrix in short: at once, after 15 minutes, after 30; and a lesser one that begins later."""
    production = Environment.objects.create(slug="production", name="Production", driver="local")
    people = [person(name) for name in ("erin", "frank", "grace")]
    for kind in ("pagerduty", "sms", "phone"):
        Channel.objects.create(kind=kind, settings={})
    for one in people:
        for kind in ("sms", "phone"):
            ContactMethod.objects.create(person=one, kind=kind, address="+15550000000")
    _matrix("urgent", ["P1", "P2"], people, [0, 900, 1800], repeats=1)
    _matrix("calm", ["P3"], people, [600, 1200, 2400], repeats=0)
    return World(production, people)


def _matrix(slug: str, severities: list[str], people: list[Person], after: list[int], *, repeats: int) -> None:
    policy = EscalationPolicy.objects.create(slug=slug, name=slug, severities=severities, repeats=repeats)
    for number, (who, seconds) in enumerate(zip(people, after, strict=True), start=1):
        EscalationLevel.objects.create(
            policy=policy, number=number, role=f"role {number}", after_seconds=seconds,
            targets=[{"person": who.username}], channels=["sms", "pagerduty", "phone"],
        )  # fmt: skip
