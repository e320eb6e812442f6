"""The review of an incident, made for a meeting: what changed before, and the line beside what was measured.

In a fixed number of queries and with bounded rows, however long the timeline is.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from environments.models import Placement
from environments.probes import KEEP
from incidents import changes
from incidents.changes import Change, Suspect
from incidents.escalation.plan import due_times
from incidents.models import Incident, Phase, TimelineEntry
from incidents.page import ABOUT_OTHERS, Line, line_of
from incidents.review_charts import Axis, Bar, Bars, Measured, change_bars, measured, parts_of, phase_bars
from incidents.timeline import Kind

AROUND = timedelta(minutes=30)
PARTS = 72
JUMPS = 12
ENTRIES = 200
ENVIRONMENTS = 3
PHASE_CHANGES = 60

# The first entry of each part of the time, each by one look into the index of (incident, at, seq).
FIRSTS = """
    SELECT part, entry.seq, entry.at FROM generate_series(0, %(count)s - 1) AS part CROSS JOIN LATERAL (
        SELECT seq, at FROM incidents_timelineentry
        WHERE incident_id = %(incident)s AND at >= %(since)s + part * %(width)s
            AND at < %(since)s + (part + 1) * %(width)s AND kind <> ALL(%(about_others)s)
        ORDER BY at, seq LIMIT 1
    ) AS entry ORDER BY part
"""


@dataclass(frozen=True)
class Jump:
    """A part of the time: where it begins, and the first entry in it (None: nothing happened)."""

    at: datetime
    seq: int | None
    x: str
    width: str


@dataclass(frozen=True)
class Spent:
    """How long a phase went on, all in all. goes_on: it has not ended."""

    phase: Phase
    span: timedelta
    goes_on: bool


@dataclass(frozen=True)
class Mark:
    """A moment to see in every chart."""

    name: str
    at: datetime
    x: str
    tone: str


class ReviewPage:
    """Everything on it, for one person. first: the seq of the entry that the line begins with, "" for its beginning."""

    def __init__(self, actor: Actor, incident: Incident, first: int = 0) -> None:
        self._actor, self._first = actor, first
        self.incident = incident
        self.now = timezone.now()
        self.may_operate = actor.may(Role.OPERATOR, incident.environments)

    @cached_property
    def axis(self) -> Axis:
        """From half an hour before it to half an hour after its end, or until now."""
        end = self.incident.resolved_at
        return Axis(self.incident.opened_at - AROUND, min(end + AROUND, self.now) if end else self.now)

    @property
    def end(self) -> datetime:
        """When it was over, or now."""
        return self.incident.resolved_at or self.now

    # --- how long ---------------------------------------------------------------------------------

    @property
    def to_notify(self) -> timedelta | None:
        """Until the first channel took a page."""
        at = self.incident.notified_at
        return at - self.incident.opened_at if at else None

    @property
    def to_acknowledge(self) -> timedelta | None:
        """Until somebody had it."""
        at = self.incident.acknowledged_at
        return at - self.incident.opened_at if at else None

    @property
    def promised(self) -> timedelta | None:
        """After how long the matrix goes on to the next level: to acknowledge later than that is late."""
        opened = self.incident.opened_at
        due = sorted({at - opened for _, _, at in due_times(self.incident.policy, opened)})
        return next((span for span in due if span), None)

    @property
    def is_late(self) -> bool:
        """It was acknowledged after the next level was paged."""
        took, promised = self.to_acknowledge or self.end - self.incident.opened_at, self.promised
        return promised is not None and took > promised

    @property
    def to_resolve(self) -> timedelta | None:
        """Until it was over."""
        at = self.incident.resolved_at
        return at - self.incident.opened_at if at else None

    @cached_property
    def _phases(self) -> list[tuple[str, datetime]]:
        rows = TimelineEntry.objects.filter(incident=self.incident, kind=Kind.STATE, data__has_key="phase")
        moved = rows.order_by("at", "seq").values_list("data__phase", "at")[:PHASE_CHANGES]
        return [(str(Phase.DETECTION), self.incident.opened_at), *((name, at) for name, at in moved if name in Phase)]

    @cached_property
    def phases(self) -> list[Spent]:
        """Each phase that there was, in the order of the procedure; the post-mortem comes after the end."""
        spans: dict[str, timedelta] = {}
        moments = [*self._phases, ("", self.end)]
        for (name, at), (_, until) in pairwise(moments):
            spans[name] = spans.get(name, timedelta(0)) + max(min(until, self.end) - at, timedelta(0))
        open_one = "" if self.incident.is_resolved else self.incident.phase
        return [Spent(phase, spans[phase], phase == open_one)
                for phase in Phase if phase in spans and phase != Phase.POST_MORTEM]  # fmt: skip

    @property
    def phase_bars(self) -> list[Bar]:
        """The same on the axis of the charts."""
        named = [(Phase(name).label, at) for name, at in self._phases if name != Phase.POST_MORTEM]
        return phase_bars(named, self.end, self.axis)

    # --- what changed -----------------------------------------------------------------------------

    @cached_property
    def _first_sign(self) -> datetime:
        return changes.first_sign(self.incident)

    @cached_property
    def _changes(self) -> list[Change]:
        begin = min(self._first_sign - changes.WINDOW, self.axis.since)
        return changes.gather(self._actor, begin, self.axis.until)

    @cached_property
    def suspects(self) -> list[Suspect]:
        """The changes most likely to blame, the likeliest first; none when nothing stands out."""
        before = self._changes
        if len(before) >= changes.AT_MOST:  # what came later must not crowd out what came before
            before = changes.gather(self._actor, self._first_sign - changes.WINDOW, self._first_sign)
        return changes.likely(changes.ranked(before, self._first_sign, self.incident.environments))

    @property
    def window(self) -> timedelta:
        """How far back was looked."""
        return changes.WINDOW

    @cached_property
    def here(self) -> list[Change]:
        """What changed in its environments within the time that is drawn, in order."""
        slugs, axis = set(self.incident.environments), self.axis
        return sorted(
            (one for one in self._changes
             if (not slugs or not one.environments or slugs & set(one.environments))
             and one.began_at <= axis.until and (one.ended_at or axis.until) >= axis.since),
            key=lambda one: (one.began_at, one.key),
        )  # fmt: skip

    @property
    def bars(self) -> Bars:
        """The same on the axis of the charts."""
        return change_bars(self.here, self.axis)

    # --- what was measured ------------------------------------------------------------------------

    @cached_property
    def charts(self) -> list[Measured]:
        """Error rate and answer times, an environment each; those of which no probe is left are not there."""
        placements = Placement.objects.select_related("environment")
        if self.incident.environments:
            placements = placements.filter(environment__slug__in=self.incident.environments)
        found = list(placements)
        names = {one.environment_id: one.environment.name for one in found}
        parts = parts_of(found, self.axis, PARTS)
        return [measured(names[pk], parts[pk], self.axis, PARTS) for pk in names if pk in parts][:ENVIRONMENTS]

    @property
    def gone(self) -> bool:
        """Samples are kept for a day, and a part of this time is longer ago."""
        return self.axis.since < self.now - KEEP

    @property
    def kept(self) -> timedelta:
        """For how long samples are kept."""
        return KEEP

    @property
    def marks(self) -> list[Mark]:
        """When it was opened, acknowledged and resolved."""
        one = self.incident
        moments = (("opened", one.opened_at, "bad"), ("acknowledged", one.acknowledged_at, "wait"),
                   ("resolved", one.resolved_at, "ok"))  # fmt: skip
        return [Mark(name, at, f"{self.axis.x(at):.1f}", tone) for name, at, tone in moments if at]

    # --- the line ---------------------------------------------------------------------------------

    @cached_property
    def _found(self) -> list[TimelineEntry]:
        rows = TimelineEntry.objects.filter(incident=self.incident).exclude(kind__in=ABOUT_OTHERS)
        edge = TimelineEntry.objects.filter(incident=self.incident, seq=self._first).first() if self._first else None
        if edge:
            rows = rows.filter(Q(at__gt=edge.at) | Q(at=edge.at, seq__gte=edge.seq))
        return list(rows.select_related("mark").order_by("at", "seq")[: ENTRIES + 1])

    @property
    def lines(self) -> list[Line]:
        """In the order in which things happened; hidden ones are left out of the meeting."""
        return [line for line in map(line_of, self._found[:ENTRIES]) if not line.hidden]

    @property
    def later(self) -> int:
        """The seq that the next page begins with; 0 when this is the end."""
        return self._found[ENTRIES].seq if len(self._found) > ENTRIES else 0

    @property
    def is_beginning(self) -> bool:
        """The line is shown from its first entry."""
        return not self._first

    @cached_property
    def jumps(self) -> list[Jump]:
        """The time in equal parts, each with the first entry in it."""
        axis = self.axis
        width = (axis.until - axis.since) / JUMPS
        values: dict[str, Any] = {
            "incident": self.incident.pk, "since": axis.since, "width": width, "count": JUMPS,
            "about_others": [str(kind) for kind in ABOUT_OTHERS],
        }  # fmt: skip
        with connection.cursor() as cursor:
            cursor.execute(FIRSTS, values)
            firsts = {part: seq for part, seq, _ in cursor.fetchall()}
        edges = [axis.at(part / JUMPS) for part in range(JUMPS + 1)]
        return [
            Jump(edges[part], firsts.get(part), f"{axis.x(edges[part]):.1f}",
                 f"{axis.x(edges[part + 1]) - axis.x(edges[part]):.1f}")
            for part in range(JUMPS)
        ]  # fmt: skip

    def address_of(self, seq: int) -> str:
        """Where an entry is: on this page, or on the one that begins with it."""
        return f"#entry-{seq}" if seq in self._shown else f"?from={seq}#entry-{seq}"

    @cached_property
    def _shown(self) -> set[int]:
        return {line.entry.seq for line in self.lines}

    @property
    def jump_links(self) -> list[tuple[Jump, str]]:
        """Each part with its address; "" for one in which nothing happened."""
        return [(one, self.address_of(one.seq) if one.seq else "") for one in self.jumps]
