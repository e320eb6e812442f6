"""Telling incidents of alerts: the clock takes what is due, and each incident's share is a transaction of its own.

1. Look at what is due, without locks, and decide for each alert where it belongs: to the incident it is in, to the
   incident of its rule's key, or nowhere for now (silenced, no rule, or nothing new).
2. For each of these: lock its alerts (those that a handler holds are left for the next time), decide again, lock or
   open the incident, note there what is new, and note at the alerts what their incident has heard.
3. A share that cannot be told is put off, and the others are not touched by that.

Alerts are locked before the incident and only with SKIP LOCKED: nobody waits for them while holding anything.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now

from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from incidents import lifecycle, timeline
from incidents.intake.matchers import hold
from incidents.intake.rules import Verdict, judge, notices_of
from incidents.intake.telling import Change, tell
from incidents.models import Alert, Incident, IncidentRule, Silence

logger = logging.getLogger(__name__)

ALERTS = SYSTEM("alerts")
AT_ONCE = 5000
PUT_OFF = timedelta(seconds=30)
FIRING = str(Alert.State.FIRING)

PATIENCE = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
DUE = """
    SELECT alert.id, alert.name, alert.state, alert.heard, alert.severity, alert.labels, alert.summary,
        environment.slug, source.slug, alert.silence_id, alert.flapping_until, alert.turns, alert.turns_since,
        alert.incident_id, incident.state
    FROM incidents_alert AS alert
    JOIN incidents_alertsource AS source ON source.id = alert.source_id
    LEFT JOIN environments_environment AS environment ON environment.id = alert.environment_id
    LEFT JOIN incidents_incident AS incident ON incident.id = alert.incident_id
    WHERE alert.due_at <= statement_timestamp()
"""
LABELS = 5  # their place in a row
PEEK = f"{DUE} ORDER BY alert.due_at, alert.id LIMIT %s"
HOLD = f"{DUE} AND alert.id = ANY(%s) ORDER BY alert.id FOR UPDATE OF alert SKIP LOCKED"
SETTLE = """
    UPDATE incidents_alert AS alert
    SET heard = now.heard, due_at = now.due_at, silence_id = now.silence_id, incident_id = now.incident_id
    FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::bigint[], %s::bigint[])
        AS now (id, heard, due_at, silence_id, incident_id)
    WHERE alert.id = now.id
"""


@dataclass(frozen=True, slots=True)
class Due:
    """An alert its incident has not heard the last of."""

    pk: int
    name: str
    state: str
    heard: str
    severity: str
    labels: dict[str, str]
    summary: str
    environment: str | None
    source: str
    silence: int | None
    flapping_until: datetime | None
    turns: int
    turns_since: datetime | None
    incident: int | None
    incident_state: str | None

    @property
    def seen(self) -> dict[str, str]:
        """The labels as rules and silences see them."""
        added = {"alertname": self.name, "severity": self.severity, "source": self.source}
        return {**self.labels, **added, "environment": self.environment or ""}

    @property
    def has_incident(self) -> bool:
        """It is part of one that is not over."""
        return self.incident is not None and self.incident_state != Incident.State.RESOLVED


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with an alert. target: an incident's number, what a rule says, or None for nowhere.

    change: what the incident hears, None for nothing. The others are as the alert's columns.
    """

    target: int | Verdict | None
    change: Change | None
    heard: str
    due_at: datetime | None = None
    silence: int | None = None


class Book:
    """The rules and silences as they stand now, in two queries."""

    def __init__(self) -> None:
        self.now = database_time()
        self.rules = list(IncidentRule.objects.all())
        current = Silence.objects.filter(starts_at__lte=self.now, ends_at__gt=self.now).select_related("environment")
        self.silences = list(current.order_by("-ends_at"))

    def silence_for(self, one: Due) -> Silence | None:
        """The one that silences an alert longest."""
        labels = one.seen
        return next((silence for silence in self.silences if silences(silence, labels)), None)

    def plan(self, one: Due) -> Plan:
        """Where an alert belongs, and what is new about it."""
        flaps = one.flapping_until is not None and one.flapping_until > self.now
        if flaps and one.has_incident:
            # It counts as firing until it is calm: nobody should think that it is over.
            again = Change.FLAPS if one.heard == FIRING else Change.FLAPS_AGAIN
            return Plan(one.incident, again, FIRING, one.flapping_until, one.silence)
        if one.state != FIRING:
            told = one.has_incident and one.heard == FIRING
            return Plan(one.incident if told else None, Change.OVER if told else None, one.state, None, one.silence)
        if silence := self.silence_for(one):
            return Plan(None, None, one.heard, silence.ends_at, silence.pk)
        if one.has_incident:
            is_news = one.heard != FIRING
            return Plan(one.incident if is_news else None, Change.AGAIN if is_news else None, FIRING)
        verdict = judge(self.rules, one.seen)
        change = (Change.JOINS_FLAPPING if flaps else Change.JOINS) if verdict else None
        return Plan(verdict, change, FIRING, one.flapping_until if flaps else None)


def silences(silence: Silence, labels: dict[str, str]) -> bool:
    """Whether it is about alerts with these labels (`Due.seen`)."""
    here = silence.environment is None or silence.environment.slug == labels.get("environment")
    return here and hold(silence.matchers, labels)


def group_due() -> int:
    """Tell incidents what is due; returns how many alerts were looked at. The clock calls it all the time."""
    found = _rows(PEEK, [AT_ONCE])
    if not found:
        return 0
    book = Book()
    shares: dict[Any, list[int]] = {}
    for one in found:
        target = book.plan(one).target
        shares.setdefault(target.key if isinstance(target, Verdict) else target, []).append(one.pk)
    for target, numbers in shares.items():
        try:
            with transaction.atomic():
                _share(book, target, numbers)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("the alerts of %s cannot be told; they are put off", target)
            Alert.objects.filter(pk__in=numbers, due_at__lte=Now()).update(due_at=Now() + PUT_OFF)
    return len(found)


def _share(book: Book, target: str | int | None, numbers: list[int]) -> None:
    """Everything of one incident, or of none."""
    with connection.cursor() as cursor:
        cursor.execute(PATIENCE)
    plans = [(one, book.plan(one)) for one in _rows(HOLD, [numbers])]
    mine = [(one, plan) for one, plan in plans if _key(plan) == target]
    if not mine:
        return
    incident, is_new = _incident(target, mine)
    if incident is not None and incident.is_resolved:
        return  # just now; the next look finds another place for them
    _settle(mine, incident)
    if incident is not None:
        tell(incident, [(plan.change, one) for one, plan in mine if plan.change], is_new=is_new, now=book.now)


def _key(plan: Plan) -> str | int | None:
    return plan.target.key if isinstance(plan.target, Verdict) else plan.target


def _incident(target: str | int | None, mine: Sequence[tuple[Due, Plan]]) -> tuple[Incident | None, bool]:
    """The incident with its row locked, opened if there is none yet; and whether it is new."""
    if target is None:
        return None, False
    if isinstance(target, int):
        return timeline.locked(target), False
    one, plan = mine[0]
    assert isinstance(plan.target, Verdict)
    return lifecycle.open_incident(
        ALERTS,
        title=plan.target.title,
        severity=plan.target.severity,
        environments=sorted({one.environment for one, _ in mine if one.environment}),
        group_key=plan.target.key,
        reason=f"{one.name} fires" + (f": {one.summary}" if one.summary else ""),
        notify=notices_of(one.labels),
    )


def _settle(mine: Iterable[tuple[Due, Plan]], incident: Incident | None) -> None:
    """Note at the alerts what was heard. One that belongs nowhere stays with the incident it was last in."""
    rows = [
        (one.pk, plan.heard, plan.due_at, plan.silence, incident.pk if incident else one.incident)
        for one, plan in mine
    ]  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(SETTLE, [list(column) for column in zip(*rows, strict=True)])


def _rows(query: str, values: list[Any]) -> list[Due]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return [_due(list(row)) for row in cursor.fetchall()]


def _due(row: list[Any]) -> Due:
    row[LABELS] = json.loads(row[LABELS])
    return Due(*row)
