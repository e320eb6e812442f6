"""What an incident's timeline says of its alerts: many in one entry, and never more than one in ten seconds.

What was not said yet waits in the incident's own row, so that a storm of 100,000 alerts is a few lines.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from django.db import transaction

from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.operations.errors import OperationError
from controlplane.web.tones import Tone
from incidents import holds, lifecycle, outbox, timeline
from incidents.models import Alert, Incident
from incidents.timeline import Kind, NewEntry

ALERTS = SYSTEM("alerts")
SAY_EVERY = timedelta(seconds=10)
# An incident that nobody took on, and whose alerts are all over for so long, is over.
OVER_AFTER = timedelta(minutes=2)
NAMES_AT_MOST = 3
AT_ONCE = 100


class Change(StrEnum):
    """What an incident hears of one alert."""

    JOINS = "joins"
    JOINS_FLAPPING = "joins flapping"
    AGAIN = "again"
    OVER = "over"
    FLAPS = "flaps"  # and was firing, as far as the incident knew
    FLAPS_AGAIN = "flaps again"  # and was over


NEW = (Change.JOINS, Change.JOINS_FLAPPING)
RISES = (*NEW, Change.AGAIN, Change.FLAPS_AGAIN)
FLAPPING = (Change.JOINS_FLAPPING, Change.FLAPS, Change.FLAPS_AGAIN)


class Named(Protocol):
    """What is said of an alert."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def environment(self) -> str | None: ...


def tell(incident: Incident, news: Sequence[tuple[Change, Named]], *, is_new: bool, now: datetime) -> None:
    """Count what is new, and say it now or soon; in the caller's transaction, with the incident locked."""
    joined = sum(change in NEW for change, _ in news)
    incident.alert_count += joined
    rise = sum(change in RISES for change, _ in news) - sum(change is Change.OVER for change, _ in news)
    incident.firing_count = max(incident.firing_count + rise, 0)
    incident.last_alert_at = now
    incident.over_at = None if incident.firing_count else incident.over_at or now
    incident.unsaid = _added(incident.unsaid, news)
    if is_new or incident.said_at is None or now - incident.said_at >= SAY_EVERY:
        _say(incident, now)
    fields = ("alert_count", "firing_count", "last_alert_at", "over_at", "unsaid", "said_at")
    Incident.objects.filter(pk=incident.pk).update(**{name: getattr(incident, name) for name in fields})
    _widen(incident, {one.environment for change, one in news if change in NEW and one.environment})


def say_unsaid() -> int:
    """Say what has waited for long enough; returns in how many timelines. The clock calls it."""
    waiting = Incident.objects.exclude(unsaid={}).filter(said_at__lte=database_time() - SAY_EVERY)
    numbers = list(waiting.order_by("said_at").values_list("pk", flat=True)[:AT_ONCE])
    for number in numbers:
        with transaction.atomic():
            incident = timeline.locked(number)
            if incident.unsaid:
                _say(incident, database_time())
                Incident.objects.filter(pk=number).update(unsaid=incident.unsaid, said_at=incident.said_at)
    return len(numbers)


def resolve_what_is_over() -> int:
    """Resolve incidents that nobody took on and whose alerts are all over; returns how many. The clock calls it."""
    limit = database_time() - OVER_AFTER
    quiet = Incident.objects.filter(state=Incident.State.OPEN, over_at__lte=limit)
    return sum(_resolve(number, limit) for number in quiet.order_by("over_at").values_list("pk", flat=True)[:AT_ONCE])


def _resolve(number: int, limit: datetime) -> bool:
    with transaction.atomic():
        outbox.silence_senders(number)
        incident = timeline.locked(number)
        if incident.state != Incident.State.OPEN or incident.over_at is None or incident.over_at > limit:
            return False  # somebody took it on, or an alert fires again
        # What no incident has heard of yet may be that one fires again.
        if Alert.objects.filter(incident=incident, state=Alert.State.FIRING, silence=None).exists():
            return False
        alerts = f"all its {incident.alert_count:,} alerts are" if incident.alert_count > 1 else "its alert is"
        minutes = int(OVER_AFTER.total_seconds() // 60)
        words = f"{alerts.capitalize()} over for {minutes} minutes, and nobody had acknowledged it."
        try:
            lifecycle.resolve(number, ALERTS, words)
        except OperationError:
            return False
    return True


def acknowledge_wanted() -> int:
    """Acknowledge incidents of alerts whose source says that somebody has them; returns how many it looked at."""
    wanted = Alert.objects.filter(acknowledge_at__isnull=False, due_at=None)
    numbers = list(wanted.order_by("acknowledge_at").values_list("pk", flat=True)[:AT_ONCE])
    for number in numbers:
        with transaction.atomic():
            # As everywhere, the alert is locked before its incident, and nobody waits for it.
            rows = wanted.select_related("source").select_for_update(skip_locked=True, of=("self",))
            alert = rows.filter(pk=number).first()
            if alert is None:
                continue
            Alert.objects.filter(pk=number).update(acknowledge_at=None)
            if alert.incident_id is not None and alert.state == Alert.State.FIRING:
                _acknowledge(alert.incident_id, alert)
    return len(numbers)


def _acknowledge(number: int, alert: Alert) -> None:
    try:
        with transaction.atomic():
            lifecycle.acknowledge(number, SYSTEM(str(alert.source)), via=f"by an event of {alert.source}")
    except OperationError:
        return  # somebody was first, or it is over


# --- words --------------------------------------------------------------------------------------------


def _added(unsaid: dict[str, Any], news: Iterable[tuple[Change, Named]]) -> dict[str, Any]:
    """Counts by what happened, the names, and the last summary of each count of one."""
    added = {**unsaid}
    for change, one in news:
        added[change] = added.get(change, 0) + 1
        names = added.setdefault("names", {})
        if one.name in names or len(names) < NAMES_AT_MOST:
            names[one.name] = names.get(one.name, 0) + 1
        else:
            added["others"] = added.get("others", 0) + 1
        if change in NEW:
            added["summary"] = one.summary
    return added


def _say(incident: Incident, now: datetime) -> None:
    unsaid = incident.unsaid
    incident.unsaid, incident.said_at = {}, now
    if not unsaid:
        return
    sentences = list(_sentences(incident, unsaid))
    tone = Tone.OK if unsaid.get(Change.OVER) else Tone.IDLE
    if any(unsaid.get(change) for change in FLAPPING):
        tone = Tone.WAIT
    if any(unsaid.get(change) for change in RISES):
        tone = Tone.BAD
    counts = {str(change): unsaid[change] for change in Change if change in unsaid}
    data = {**counts, "in all": incident.alert_count, "firing": incident.firing_count}
    timeline.append(incident, ALERTS, NewEntry(Kind.ALERT, " ".join(sentences), tone, data=data))


def _sentences(incident: Incident, unsaid: dict[str, Any]) -> Iterable[str]:
    who = _names(unsaid)
    if joined := sum(unsaid.get(change, 0) for change in NEW):
        yield _joined(who, joined, incident.alert_count, unsaid.get("summary", ""))
        who = "It" if joined == 1 else "Of them"
    if again := unsaid.get(Change.AGAIN):
        yield f"{who} fires again." if again == 1 else f"{who}: {again:,} fire again."
    if flaps := sum(unsaid.get(change, 0) for change in FLAPPING):
        many = "" if flaps == 1 else f" ({flaps:,} alerts)"
        yield (f"{who} flaps{many}: it counts as firing, and its turns are not told until it was calm for "
               "10 minutes.")  # fmt: skip
    if over := unsaid.get(Change.OVER):
        yield f"{who} is over." if over == 1 else f"{who}: {over:,} are over."
        yield _rest(incident)


def _joined(who: str, joined: int, total: int, summary: str) -> str:
    if joined == 1:
        return f"{who} fires" + (f": {summary.rstrip('.')}." if summary else ".") + _in_all(joined, total)
    more = " more" if total > joined else ""
    return f"{who} fires on {joined:,}{more}; {total:,} in all."


def _in_all(joined: int, total: int) -> str:
    return f" {total:,} in all." if total > joined else ""


def _names(unsaid: dict[str, Any]) -> str:
    names = list(unsaid.get("names", {})) or ["An alert"]
    return ", ".join(names) + (" and others" if unsaid.get("others") else "")


def _rest(incident: Incident) -> str:
    if incident.firing_count:
        still = "fires" if incident.firing_count == 1 else "fire"
        return f"{incident.firing_count:,} of {incident.alert_count:,} still {still}."
    if incident.state == Incident.State.ACKNOWLEDGED:
        return f"All its alerts are over; {incident.acknowledged_by_name} has it and says when it is resolved."
    minutes = int(OVER_AFTER.total_seconds() // 60)
    return f"All its alerts are over: unless one fires again, it is resolved in {minutes} minutes."


def _widen(incident: Incident, slugs: set[str]) -> None:
    """An alert of another environment joined: the incident is about that one too, from now on."""
    added = sorted(slugs - set(incident.environments))
    if not added or not incident.environments:
        return  # one of the whole installation stays that
    incident.environments = sorted({*incident.environments, *added})
    Incident.objects.filter(pk=incident.pk).update(environments=incident.environments)
    words = f"It is about {', '.join(added)} too: alerts of there joined it"
    timeline.append(incident, ALERTS, NewEntry(Kind.STATE, words, Tone.WAIT, data={"environments": added}))
    holds.follow(incident)
