"""What the clock does for running escalations: needs PostgreSQL and nothing else.

1. Claim some incidents with levels that are due, `FOR UPDATE SKIP LOCKED`: any number of clocks share the work.
2. Of each incident the highest due level is paged and says how many were due; levels below it, missed in an outage,
   are passed over. Levels of the same moment go together.
3. Pages, their first deliveries in the outbox, the levels' new state and the timeline entry are one commit.
4. A level that reaches nobody says so, and the next one becomes due at once.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now

from controlplane.audit.record import SYSTEM, Who
from controlplane.clock.database import database_time
from controlplane.web.tones import Tone
from incidents import outbox, timeline
from incidents.escalation import plan
from incidents.escalation.targets import Reached, people_for, reach
from incidents.models import Delivery, Incident, Level, Page
from incidents.timeline import Kind, NewEntry

logger = logging.getLogger(__name__)

CLOCK = SYSTEM("clock")
AT_ONCE = 500
# As many incidents in one transaction: somebody who acknowledges one of them waits for so long.
TOGETHER = 50
# "Nobody was notified" is said after this long.
NOBODY_SECONDS = 10

DUE = """
    SELECT incident_id FROM incidents_level WHERE state = 'pending' AND due_at <= clock_timestamp()
    ORDER BY due_at LIMIT %s
"""

SETTLE = """
    UPDATE incidents_level level SET state = settled.state, settled_at = %s, words = settled.words
    FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS settled (id, state, words) WHERE level.id = settled.id
"""


def fire_due() -> int:
    """Page every level that is due; returns how many incidents moved."""
    outbox.incidents_url()  # now, rather than when the first page is due
    with connection.cursor() as cursor:
        cursor.execute(DUE, [AT_ONCE])
        waiting = list(dict.fromkeys(row[0] for row in cursor.fetchall()))
    return sum(_fire_some(waiting[start : start + TOGETHER]) for start in range(0, len(waiting), TOGETHER))


def _fire_some(incident_ids: Sequence[int]) -> int:
    """All of them in one transaction; where that fails each in its own, so that one does not hold up the others."""
    try:
        return _fire(incident_ids)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(incident_ids) == 1:
            logger.exception("incident %d cannot be escalated", incident_ids[0])
            return 0
        return sum(_fire_some([one]) for one in incident_ids)


def _fire(incident_ids: Sequence[int]) -> int:
    with transaction.atomic():
        rows = Incident.objects.defer("search", "policy").select_for_update(skip_locked=True)
        # Another clock has the others, or somebody has just acknowledged them.
        incidents = {one.pk: one for one in rows.filter(pk__in=incident_ids, state=Incident.State.OPEN)}
        if not incidents:
            return 0
        turn = Turn(database_time())
        due: dict[int, list[Level]] = {}
        pending = Level.objects.filter(plan.PENDING, incident__in=incidents, due_at__lte=turn.now)
        for level in pending.order_by("due_at", "number"):
            due.setdefault(level.incident_id, []).append(level)
        if not due:
            return 0  # another clock was first, and is done
        for incident_id, levels in due.items():
            turn.fire_due(incidents[incident_id], levels)
        turn.write()
    return len(due)


def fire(incident: Incident, level: Level, remark: str = "") -> int:
    """Page one level, in the caller's transaction with the incident locked; returns how many people it reaches."""
    turn = Turn(database_time())
    reached = turn.fire(incident, level, remark)
    turn.write()
    return reached


@dataclass
class Turn:
    """What is decided for some incidents, all of them locked, and then written in a few statements."""

    now: datetime
    settled: list[tuple[int, str, str]] = field(default_factory=list)  # level, state, words
    pages: list[tuple[Page, Incident, str]] = field(default_factory=list)
    lines: list[tuple[Incident, Who, NewEntry]] = field(default_factory=list)
    unheard: list[tuple[Incident, Level]] = field(default_factory=list)  # levels that reach nobody
    _reached: dict[str, list[Reached]] = field(default_factory=dict)

    def fire_due(self, incident: Incident, due: Sequence[Level]) -> None:
        """The highest of the levels that are due, and those of the same moment; the others are passed over."""
        last = due[-1].due_at
        missed, firing = [one for one in due if one.due_at < last], [one for one in due if one.due_at == last]
        if missed:
            names = ", ".join(f"L{one.number}" for one in missed)
            self.settled += [(one.pk, Level.State.PASSED, f"{len(due)} levels were due at once") for one in missed]
            words = f"{len(due)} levels were due at once, after an outage: the highest goes, {names} passed over"
            self.lines.append((incident, CLOCK, NewEntry(Kind.PAGE, words, Tone.WAIT)))
        for level in firing:
            self.fire(incident, level, f"{len(due)} levels were due" if missed else "")

    def fire(self, incident: Incident, level: Level, remark: str) -> int:
        """One level; returns how many people it reaches."""
        reached = self._reach(level)
        able = [one for one in reached if one.ways]
        said = _said(level, reached)
        self.settled.append((level.pk, Level.State.FIRED, said[:300]))
        words = ". ".join(filter(None, [f"L{level.number} {level.role}", remark]))
        self.pages += [
            (
                Page(incident=incident, level=level, person=one.person, person_name=one.person.title_name,
                     ways=one.ways),
                incident,
                words,
            )
            for one in able
        ]  # fmt: skip
        text = f"L{level.number} {said}" + (f" ({remark})" if remark else "")
        data = {"level": level.number, "round": level.round}
        tone = Tone.BUSY if able else Tone.BAD
        self.lines.append((incident, CLOCK, NewEntry(Kind.PAGE, text, tone, data=data)))
        if not able:
            self.unheard.append((incident, level))
        return len(able)

    def _reach(self, level: Level) -> list[Reached]:
        """Many levels mean the same people: they are asked for once."""
        key = json.dumps([level.targets, level.channels])
        if key not in self._reached:
            self._reached[key] = reach(people_for(level.targets, self.now), level.channels)
        return self._reached[key]

    def write(self) -> None:
        """All of it. What is paged already is not paged again."""
        with connection.cursor() as cursor:
            cursor.execute(SETTLE, [self.now, *(list(column) for column in zip(*self.settled, strict=True))])
        levels = {page.level_id for page, _, _ in self.pages}
        known = set(Page.objects.filter(level__in=levels).values_list("level_id", "person_id"))
        outbox.first_tries([one for one in self.pages if (one[0].level_id, one[0].person_id) not in known])
        timeline.append_all(self.lines)
        for incident, level in self.unheard:
            _bring_forward(incident, level)


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
        levels__due_at__lte=now - timedelta(seconds=NOBODY_SECONDS),
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
