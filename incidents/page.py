"""The page of one incident: how bad, who knows, what changed, what next; in a fixed number of queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.db.models import Q
from django.utils import timezone

from controlplane.accounts.access import Actor, holders
from controlplane.accounts.models import Person, Role
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from environments.charts import Chart, chart_of
from environments.models import Environment, EnvironmentLock, Placement
from environments.samples import buckets_of
from incidents import changes
from incidents.changes import Suspect
from incidents.holds import BAD_ENOUGH
from incidents.listing import nobody_notified
from incidents.models import Alert, BreakGlass, ChecklistItem, Incident, IncidentLock, Phase, TimelineEntry
from incidents.reached import LevelView, levels_of
from incidents.timeline import Kind

ENTRIES = 100
ALERTS = 10
# What only says how another entry is shown.
ABOUT_OTHERS = (Kind.EDIT, Kind.PIN, Kind.HIDE)
CHART_BEFORE = timedelta(minutes=30)
CHART_BUCKETS = 60
KINDS = [(kind.value, kind.label) for kind in Kind if kind not in ABOUT_OTHERS]


@dataclass(frozen=True)
class Line:
    """One entry as it is shown now."""

    entry: TimelineEntry
    text: str
    edits: int
    pinned: bool
    hidden: bool
    versions: Sequence[TimelineEntry] = ()  # its edits, the first one first

    @property
    def by(self) -> str:
        """Who, unless it was a machine of ours."""
        return "" if self.entry.actor.startswith("system: ") else self.entry.actor

    @property
    def late(self) -> bool:
        """It was filled in after it happened."""
        return bool(self.entry.data.get("filled in"))

    @property
    def operation(self) -> int | None:
        """The operation it tells of."""
        number = self.entry.data.get("operation")
        return number if isinstance(number, int) else None


def line_of(entry: TimelineEntry, versions: Sequence[TimelineEntry] = ()) -> Line:
    """The entry with its mark, which must have been selected with it."""
    mark = getattr(entry, "mark", None)
    if mark is None:
        return Line(entry, entry.text, 0, pinned=False, hidden=False)
    return Line(entry, mark.text or entry.text, mark.edits, mark.pinned, mark.hidden, versions)


@dataclass(frozen=True)
class Held:
    """An environment of the incident: its lock, and the glass that is or may be broken."""

    environment: Environment
    lock: EnvironmentLock | None
    glass: BreakGlass | None
    may_ask: bool
    may_confirm: bool


class IncidentPage:
    """Everything on it, for one person. kind: of the entries to show; before: the seq of the first one shown now."""

    def __init__(self, actor: Actor, incident: Incident, kind: str = "", before: int = 0) -> None:
        self._actor = actor
        self.incident = incident
        self.kind = kind if kind in dict(KINDS) else ""
        self._before = before
        self.kinds = KINDS
        self.may_operate = actor.may(Role.OPERATOR, incident.environments)
        self.phases = list(Phase)

    # --- the timeline -----------------------------------------------------------------------------

    @cached_property
    def _found(self) -> list[TimelineEntry]:
        rows = TimelineEntry.objects.filter(incident=self.incident).select_related("mark")
        rows = rows.filter(kind=self.kind) if self.kind else rows.exclude(kind__in=ABOUT_OTHERS)
        edge = self._before and TimelineEntry.objects.filter(incident=self.incident, seq=self._before).first()
        if edge:
            rows = rows.filter(Q(at__lt=edge.at) | Q(at=edge.at, seq__lt=edge.seq))
        return list(rows.order_by("-at", "-seq")[: ENTRIES + 1])

    @cached_property
    def lines(self) -> list[Line]:
        """The last hundred in the order in which things happened."""
        found, versions = self._found[:ENTRIES], self._versions
        return [line_of(entry, versions.get(entry.seq, ())) for entry in reversed(found)]

    @cached_property
    def _versions(self) -> dict[int, list[TimelineEntry]]:
        """The edits of what is shown, by the entry that they are about; nothing is asked when none was edited."""
        edited = [entry.seq for entry in self._found[:ENTRIES] if line_of(entry).edits]
        versions: dict[int, list[TimelineEntry]] = {}
        if edited:
            rows = TimelineEntry.objects.filter(incident=self.incident, kind=Kind.EDIT, data__of__in=edited)
            for edit in rows.order_by("-seq")[:ENTRIES]:
                versions.setdefault(edit.data["of"], []).insert(0, edit)
        return versions

    @property
    def earlier(self) -> int:
        """The cursor of the page before this one; 0 when this is the beginning."""
        return self._found[ENTRIES - 1].seq if len(self._found) > ENTRIES else 0

    @cached_property
    def pinned(self) -> list[Line]:
        """What people want to keep in view."""
        rows = TimelineEntry.objects.filter(mark__incident=self.incident, mark__pinned=True).select_related("mark")
        return [line_of(entry) for entry in rows.order_by("at", "seq")[:20]]

    # --- who is told ------------------------------------------------------------------------------

    @cached_property
    def levels(self) -> list[LevelView]:
        """The escalation: what was paged, and the first round of what is to come."""
        return levels_of(self.incident)

    @property
    def nobody_notified(self) -> bool:
        """Open for a while, and not one page was accepted."""
        return nobody_notified(self.incident)

    @cached_property
    def people(self) -> list[Person]:
        """Whom one may give a role, or hand over to."""
        return holders(Role.VIEWER, self.incident.environments) if self.may_operate else []

    # --- the procedure ----------------------------------------------------------------------------

    @cached_property
    def checklists(self) -> list[tuple[Phase, list[ChecklistItem], bool]]:
        """By phase: the lines, and whether it is the one that is on."""
        items = list(self.incident.checklist.all())
        return [(phase, [item for item in items if item.phase == phase], phase == self.incident.phase)
                for phase in Phase]  # fmt: skip

    # --- what it is about -------------------------------------------------------------------------

    @cached_property
    def alerts(self) -> list[Alert]:
        """The newest, by their numbers: of a storm's 100,000 an index gives these at once."""
        rows = Alert.objects.filter(incident=self.incident).defer("labels", "annotations")
        return list(rows.order_by("-pk")[:ALERTS])

    @cached_property
    def _environments(self) -> list[Environment]:
        return list(Environment.objects.filter(slug__in=self.incident.environments))

    @cached_property
    def held(self) -> list[Held]:
        """Each environment with its lock."""
        if self.incident.is_resolved:
            return []
        locks = {one.environment_id: one.lock for one in
                 IncidentLock.objects.filter(incident=self.incident).select_related("lock")}  # fmt: skip
        glasses = {one.environment_id: one for one in
                   BreakGlass.objects.filter(incident=self.incident, ended_at=None)}  # fmt: skip
        return [self._held(one, locks.get(one.pk), glasses.get(one.pk)) for one in self._environments]

    def _held(self, environment: Environment, lock: EnvironmentLock | None, glass: BreakGlass | None) -> Held:
        lock = lock if lock is not None and lock.released_at is None else None
        matters = self.incident.severity in BAD_ENOUGH
        may_ask = matters and glass is None and self._actor.may(Role.OPERATOR, [environment.slug])
        may_confirm = (
            matters
            and glass is not None
            and glass.confirmed_at is None
            and glass.asked_by_id != self._actor.person.pk
            and self._actor.may(Role.APPROVER, [environment.slug])
        )
        return Held(environment, lock, glass, may_ask, may_confirm)

    @cached_property
    def suspect(self) -> Suspect | None:
        """The change to look at first; None when nothing stands out."""
        return changes.most_likely(self._actor, self.incident)

    @cached_property
    def chart(self) -> Chart | None:
        """Answer times and failures around the incident, of the first environment that has a service."""
        placements = list(Placement.objects.filter(environment__in=self._environments).exclude(version="")[:1])
        if not placements:
            return None
        since, until = self.span
        buckets = buckets_of(placements, since, until, CHART_BUCKETS)[placements[0].pk]
        if not any(bucket.probes for bucket in buckets):
            return None
        return chart_of(buckets, since, until, self._ended(since, until))

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From half an hour before the opening until now, or half an hour after the end."""
        end = self.incident.resolved_at
        return self.incident.opened_at - CHART_BEFORE, (end + CHART_BEFORE) if end else timezone.now()

    def _ended(self, since: datetime, until: datetime) -> list[tuple[datetime, str]]:
        rows = Operation.objects.filter(
            scopes__overlap=self.incident.environments, finished_at__range=(since, until), state=State.SUCCEEDED,
            kind="deployment",
        )  # fmt: skip
        return [(at, title) for at, title in rows.values_list("finished_at", "title")[:50] if at]
