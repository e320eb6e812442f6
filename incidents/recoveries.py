"""What disaster recovery and incidents have to do with each other.

A failover may break the glass by an open P1; people are told by the channels of incidents; plans that are not ready,
and drills that are owed, are alerts.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from backups.disaster.readiness import latest
from backups.models import Readiness, RecoveryClock, RecoveryPlan
from controlplane.clock.database import database_time
from incidents import outbox
from incidents.intake.own import OwnAlert, firing_of, say_news
from incidents.models import Channel, ChannelKind, Delivery, Incident, Severity

NOT_READY, DRILL_OWED = "RecoveryNotReady", "DrillOverdue"
LATE_DRILL = timedelta(hours=1)
LOUD_CHANNELS = (ChannelKind.SLACK, ChannelKind.EMAIL)


def why_not(incident: int, scopes: Sequence[str]) -> str:
    """Why this incident is no reason for a failover without two approvers; "" when it is: an open P1 right there."""
    found = Incident.objects.filter(pk=incident).first()
    if found is None:
        return f"There is no incident {incident}."
    if found.is_resolved:
        return f"Incident {incident} is resolved: ask for approval instead."
    if found.severity != Severity.P1:
        return f"Incident {incident} is a {found.severity}; only a P1 breaks the glass."
    if not set(found.environments) & set(scopes):
        return f"Incident {incident} is not about {' or '.join(scopes)}."
    return ""


def tell(key: str, whom: Sequence[str], words: str) -> int:
    """Queue a message to each of these channels that is set up; nobody named means those that many people read.

    The same key again is the same message.
    """
    wanted = set(whom) or set(LOUD_CHANNELS)
    configured = Channel.objects.filter(kind__in=wanted, paused=False).values_list("kind", flat=True)
    message = {"incident": None, "title": "Disaster recovery", "severity": "", "text": words,
               "url": f"{settings.SITE_URL}/recovery", "page": None}  # fmt: skip
    with transaction.atomic():
        for kind in configured:
            outbox.queue(None, Delivery.Purpose.NOTICE, kind, f"{key}-{kind}", message)
    return len(configured)


def watch_recoveries() -> int:
    """Say of plans that are not ready, and of drills that are owed; returns how many alerts changed."""
    plans = list(RecoveryPlan.objects.select_related("primary", "standby"))
    if not plans:
        return 0
    now = database_time()
    looks = latest(plans)
    clocks = {one.plan_id: one for one in RecoveryClock.objects.filter(plan__in=plans)}
    firing = firing_of("recovery:")
    since = {mark: alert.started_at for mark, alert in firing.items()}
    found = [_not_ready(plan, look, since) for plan in plans if (look := looks[plan.pk]) and not look.ready]
    found += [_owed(plan, clocks[plan.pk], now, since) for plan in plans if _is_owed(clocks.get(plan.pk), now)]
    return say_news(found, firing)


def _not_ready(plan: RecoveryPlan, look: Readiness, since: dict[str, datetime]) -> OwnAlert:
    wrong = [one for one in look.checks if one["outcome"] != "ready"]
    words = "; ".join(f"{one['title']}: {one['words']}" for one in wrong[:3])
    return _alert(NOT_READY, plan, f"{plan.name} is not ready: {words}", look.at, since)


def _is_owed(clock: RecoveryClock | None, now: datetime) -> bool:
    if clock is None:
        return False
    late = clock.drill_due_at is not None and now - clock.drill_due_at > LATE_DRILL
    return late or clock.overdue_said_at is not None


def _owed(plan: RecoveryPlan, clock: RecoveryClock, now: datetime, since: dict[str, datetime]) -> OwnAlert:
    at = clock.overdue_said_at or clock.drill_due_at or now
    words = f"{plan.name}: the drill that was due is not done. Start one on the page of the plan."
    return _alert(DRILL_OWED, plan, words, at, since)


def _alert(name: str, plan: RecoveryPlan, words: str, at: datetime, since: dict[str, datetime]) -> OwnAlert:
    mark = f"recovery:{plan.pk}:{name}"
    return OwnAlert(
        name=name,
        severity="warning",
        summary=words[:500],
        firing=True,
        started_at=since.get(mark, at),
        environment=plan.primary.slug,
        labels={"plan": plan.slug},
        url=settings.SITE_URL + plan.get_absolute_url(),
        mark=mark,
    )
