"""What the clock does for running escalations: needs PostgreSQL and nothing else.

1. Claim some incidents with levels that are due, `FOR UPDATE SKIP LOCKED`: any number of clocks share the work.
2. Of each incident, in a transaction of its own: the highest due level is paged and says how many were due; levels
   below it, missed in an outage, are passed over. Levels of the same moment go together.
3. Pages, their first deliveries in the outbox, the levels' new state and the timeline entry are one commit.
4. A level that reaches nobody says so, and the next one becomes due at once.
"""

from collections.abc import Sequence
from datetime import timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.web.tones import Tone
from incidents import outbox, timeline
from incidents.escalation import plan
from incidents.escalation.targets import Reached, people_for, reach
from incidents.models import Delivery, Incident, Level, Page
from incidents.timeline import Kind, NewEntry

CLOCK = SYSTEM("clock")
AT_ONCE = 500
# "Nobody was notified" is said after this long.
NOBODY_SECONDS = 10

DUE = """
    SELECT incident_id FROM incidents_level WHERE state = 'pending' AND due_at <= clock_timestamp()
    ORDER BY due_at LIMIT %s
"""


def fire_due() -> int:
    """Page every level that is due; returns how many incidents moved."""
    with connection.cursor() as cursor:
        cursor.execute(DUE, [AT_ONCE])
        waiting = list(dict.fromkeys(row[0] for row in cursor.fetchall()))
    return sum(_fire(incident_id) for incident_id in waiting)


def _fire(incident_id: int) -> bool:
    with transaction.atomic():
        rows = Incident.objects.defer("search").select_for_update(skip_locked=True)
        incident = rows.filter(pk=incident_id, state=Incident.State.OPEN).first()
        if incident is None:
            return False  # another clock has it, or somebody has just acknowledged it
        now = database_time()
        due = list(Level.objects.filter(plan.PENDING, incident=incident, due_at__lte=now).order_by("due_at", "number"))
        if not due:
            return False
        last = due[-1].due_at
        missed, firing = [one for one in due if one.due_at < last], [one for one in due if one.due_at == last]
        if missed:
            names = ", ".join(f"L{one.number}" for one in missed)
            Level.objects.filter(pk__in=[one.pk for one in missed]).update(
                state=Level.State.PASSED, settled_at=Now(), words=f"{len(due)} levels were due at once"
            )
            words = f"{len(due)} levels were due at once, after an outage: the highest goes, {names} passed over"
            timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, words, Tone.WAIT))
        for level in firing:
            fire(incident, level, f"{len(due)} levels were due" if missed else "")
    return True


def fire(incident: Incident, level: Level, remark: str = "") -> int:
    """Page one level, in the caller's transaction with the incident locked; returns how many people it reaches."""
    reached = reach(people_for(level.targets, database_time()), level.channels)
    able = [one for one in reached if one.ways]
    said = _said(level, reached)
    Level.objects.filter(pk=level.pk).update(state=Level.State.FIRED, settled_at=Now(), words=said[:300])
    for one in able:
        page, is_new = Page.objects.get_or_create(
            level=level, person=one.person,
            defaults={"incident": incident, "person_name": one.person.title_name, "ways": one.ways},
        )  # fmt: skip
        if is_new:
            outbox.try_way(page, incident, 0, ". ".join(filter(None, [f"L{level.number} {level.role}", remark])))
    text = f"L{level.number} {said}" + (f" ({remark})" if remark else "")
    data = {"level": level.number, "round": level.round}
    timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, text, Tone.BUSY if able else Tone.BAD, data=data))
    if not able:
        _bring_forward(incident, level)
    return len(able)


def _said(level: Level, reached: Sequence[Reached]) -> str:
    if not reached:
        return f"reached nobody: no one is on call as {level.role}"
    ways = [f"{one.person.title_name} by {', then '.join(way['channel'] for way in one.ways)}"
            for one in reached if one.ways]  # fmt: skip
    without = [one.person.title_name for one in reached if not one.ways]
    parts = [f"pages {' and '.join(ways)}"] if ways else []
    parts += [f"cannot reach {' and '.join(without)}: no address for {', '.join(level.channels)}"] if without else []
    return "; ".join(parts)


def _bring_forward(incident: Incident, level: Level) -> None:
    """Nobody heard of it, so the next level need not wait for its time."""
    following = Level.objects.filter(plan.PENDING, incident=incident).order_by("due_at", "number").first()
    if following is not None:
        following.due_at = min(following.due_at, database_time())
        following.save(update_fields=["due_at"])
        words = f"L{following.number} is due at once, as L{level.number} reached nobody"
        timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, words, Tone.WAIT))


# --- After the first try ------------------------------------------------------------------------------


def follow_up() -> int:
    """Try the next channel of pages without a receipt, or whose channel failed; returns how many moved."""
    due = Page.objects.filter(next_way_at__lte=Now()).order_by("next_way_at").values_list("pk", "incident_id")[:AT_ONCE]
    return sum(_next_way(*one) for one in due)


def _next_way(page_id: int, incident_id: int) -> bool:
    with transaction.atomic():
        incident = Incident.objects.defer("search").select_for_update(skip_locked=True).filter(pk=incident_id).first()
        page = Page.objects.filter(pk=page_id, next_way_at__lte=Now()).first()
        if incident is None or page is None:
            return False
        if incident.is_resolved:
            Page.objects.filter(pk=page.pk).update(next_way_at=None)
            return False
        tried, number = page.ways[page.way]["channel"], page.way + 1
        if number >= len(page.ways):
            Page.objects.filter(pk=page.pk).update(next_way_at=None, state=Page.State.FAILED)
            words = f"{page.person_name} was reached by no channel; the last one tried was {tried}"
            timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, words, Tone.BAD, data={"page": page.pk}))
            return True
        outbox.try_way(page, incident, number, "no receipt from the channel before")
        words = f"No receipt for {page.person_name} by {tried}: trying {page.ways[number]['channel']}"
        timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, words, Tone.WAIT, data={"page": page.pk}))
    return True


def tell_of_silence() -> int:
    """Say it in the timeline, once, when nobody has been notified of an incident for NOBODY_SECONDS."""
    now = database_time()
    silent = Incident.objects.filter(
        state=Incident.State.OPEN, notified_at=None, opened_at__lte=now - timedelta(seconds=NOBODY_SECONDS),
        levels__isnull=False,
    ).exclude(timeline__kind=Kind.PAGE, timeline__data__has_key="nobody")  # fmt: skip
    told = 0
    for pk in silent.distinct().values_list("pk", flat=True)[:AT_ONCE]:
        with transaction.atomic():
            incident = timeline.locked(pk)
            again = incident.timeline.filter(kind=Kind.PAGE, data__has_key="nobody").exists()
            if again or incident.notified_at is not None or incident.state != Incident.State.OPEN:
                continue
            waiting = Delivery.objects.filter(incident=incident, purpose=Delivery.Purpose.PAGE).exclude(error="")
            why = next((f": {error}" for error in waiting.order_by("-pk").values_list("error", flat=True)[:1]), "")
            words = f"Nobody has been notified yet{why}"
            timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, words, Tone.BAD, data={"nobody": True}))
            told += 1
    return told
