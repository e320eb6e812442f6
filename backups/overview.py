"""The truth about backups at a glance: per environment and policy, in a fixed number of queries."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import OuterRef
from django.db.models.functions import Now

from backups.access import visible_policies
from backups.charts import WindowBar, window_bar
from backups.freshness import latest_of
from backups.models import Backup, BackupAlert, Kind, Policy, RestorePoint
from backups.window import Window, recoverable_of
from controlplane.accounts.access import Actor
from controlplane.operations import attached
from controlplane.operations.models import Operation
from controlplane.operations.states import ACTIVE
from controlplane.web.tones import Tone
from environments.models import Environment

SPARK = 30
POINTS = 5
# Of a promise: from here on it is in danger.
DANGER = 0.75
DATABASES = (Kind.DATABASE, Kind.PITR)


@dataclass(frozen=True)
class Promise:
    """A measured value beside what was promised, both in seconds. now None: there is nothing yet."""

    now: float | None
    promised: float

    @property
    def tone(self) -> Tone:
        """Orange before it is red."""
        if self.now is None or self.now > self.promised:
            return Tone.BAD
        return Tone.WAIT if self.now > DANGER * self.promised else Tone.OK

    @property
    def percent(self) -> int:
        """How much of the promise is used up, 0–100."""
        return 100 if self.now is None else min(100, round(100 * self.now / max(1.0, self.promised)))


@dataclass
class PolicyView:
    """One policy with all that the overview says of it."""

    policy: Policy
    now: datetime
    latest: list[Backup] = field(default_factory=list)
    proven: Backup | None = None
    alerts: list[BackupAlert] = field(default_factory=list)
    active: list[Operation] = field(default_factory=list)
    windows: Sequence[Window] = ()

    @property
    def newest(self) -> Backup | None:
        """The newest that is good as far as anybody knows."""
        return self.latest[0] if self.latest else None

    @property
    def restorable_to(self) -> datetime | None:
        """The latest moment one could go back to."""
        if self.policy.kind == Kind.PITR and self.windows:
            return max(window.until for window in self.windows)
        return self.newest.as_of if self.newest else None

    @property
    def rpo(self) -> Promise:
        """What would be lost now."""
        moment = self.restorable_to
        lost = max(0.0, (self.now - moment).total_seconds()) if moment else None
        return Promise(lost, self.policy.rpo_seconds)

    @property
    def rto(self) -> Promise:
        """How long a restore takes, by the last test."""
        return Promise(self.proven.restore_seconds if self.proven else None, self.policy.rto_seconds)

    @property
    def tone(self) -> Tone:
        """Of the whole policy: what a person would want to know first."""
        if self.policy.paused:
            return Tone.IDLE
        if self.active:
            return Tone.BUSY if not self.is_in_trouble else self._trouble
        return self._trouble if self.is_in_trouble else Tone.OK

    @property
    def is_in_trouble(self) -> bool:
        """An alert is open, its promise is in danger, or nothing was proven yet."""
        return bool(self.alerts) or self.rpo.tone != Tone.OK or self.proven is None

    @property
    def _trouble(self) -> Tone:
        if self.alerts or (self.rpo.tone == Tone.BAD and self.newest):
            return Tone.BAD
        return Tone.WAIT

    @property
    def word(self) -> str:
        """The same in words."""
        if self.policy.paused:
            return "paused"
        if self.alerts:
            return str(self.alerts[0].get_kind_display())
        if self.active:
            return "under way"
        if self.newest is None:
            return "no backup yet"
        if self.proven is None:
            return "not proven yet"
        return "protected" if self.rpo.tone == Tone.OK else "late"

    @property
    def bar(self) -> WindowBar | None:
        """The recoverable window, as a drawing."""
        return window_bar(self.windows, self.now)

    @property
    def sizes(self) -> list[float | None]:
        """Of its last backups, the oldest first, for a sparkline."""
        return [float(backup.size) for backup in reversed(self.latest)]


@dataclass
class Site:
    """One environment and how well it is protected."""

    environment: Environment
    policies: list[PolicyView] = field(default_factory=list)
    points: list[RestorePoint] = field(default_factory=list)

    @property
    def database(self) -> PolicyView | None:
        """The one of its databases that can go back to the latest moment."""
        known = [one for one in self.policies if one.policy.kind in DATABASES and one.restorable_to]
        return max(known, key=lambda one: one.restorable_to or one.now - timedelta(days=36500), default=None)

    @property
    def proven(self) -> Backup | None:
        """The latest proof of any of its databases."""
        known = [one.proven for one in self.policies if one.policy.kind in DATABASES and one.proven]
        return max(known, key=lambda one: one.tested_at or one.as_of, default=None)

    @property
    def rto(self) -> Promise | None:
        """How long its database takes to restore, by the last test."""
        if self.database is None:
            return None
        seconds = self.proven.restore_seconds if self.proven else None
        return Promise(seconds, self.database.policy.rto_seconds)

    @property
    def alerts(self) -> list[BackupAlert]:
        """All that are open here."""
        return [alert for one in self.policies for alert in one.alerts]

    @property
    def tone(self) -> Tone:
        """The worst of its policies; what moves is no trouble."""
        tones = [one.tone for one in self.policies]
        order = (Tone.BAD, Tone.WAIT, Tone.BUSY, Tone.OK)
        return next((tone for tone in order if tone in tones), Tone.IDLE)


def overview(actor: Actor, *, details: bool = False) -> list[Site]:
    """Every environment with a policy that the person sees. details: what is under way, and restore points, too."""
    wrong = attached.rows(BackupAlert.objects.filter(policy=OuterRef("pk"), resolved_at=None).order_by("raised_at"))
    policies: list[Policy] = list(visible_policies(actor).annotate(asked_at=Now(), wrong=wrong))
    if not policies:
        return []
    alerts = [alert for policy in policies for alert in attached.made_of(BackupAlert, vars(policy)["wrong"])]
    now: datetime = vars(policies[0])["asked_at"]
    order = list(Kind)
    policies.sort(
        key=lambda one: (one.environment.position, one.environment.slug, order.index(Kind(one.kind)), one.slug)
    )
    sites: dict[int, Site] = {}
    for view in views_of(policies, now, with_active=details, alerts=alerts):
        place = view.policy.environment
        sites.setdefault(place.pk, Site(place)).policies.append(view)
    if details:
        _points(sites)
    return list(sites.values())


def _place(policy: Policy) -> tuple[int, str, int, str]:
    place = policy.environment
    return place.position, place.slug, list(Kind).index(Kind(policy.kind)), policy.slug


def views_of(
    policies: list[Policy], now: datetime, *, with_active: bool = True, alerts: Iterable[BackupAlert] | None = None
) -> list[PolicyView]:
    """What the pages say of these policies, in the same order. now: by the database. alerts: if they are known."""
    latest = latest_of(policies, SPARK)
    if alerts is None:
        alerts = BackupAlert.objects.filter(policy__in=policies, resolved_at=None).order_by("raised_at")
    wrong = _by_policy(policies, alerts)
    active = _active(policies) if with_active else {}
    windows = recoverable_of([policy for policy in policies if policy.kind == Kind.PITR])
    return [
        PolicyView(
            policy, now, latest[policy.pk].good, latest[policy.pk].proven, wrong[policy.pk], active.get(policy.pk, []),
            windows.get(policy.pk, ()),
        )
        for policy in policies
    ]  # fmt: skip


def _by_policy(policies: list[Policy], alerts: Iterable[BackupAlert]) -> dict[int, list[BackupAlert]]:
    found: dict[int, list[BackupAlert]] = defaultdict(list)
    by_number = {policy.pk: policy for policy in policies}
    for alert in alerts:
        alert.policy = by_number[alert.policy_id]
        found[alert.policy_id].append(alert)
    return found


ACTIVE_OF = """
SELECT r.policy_id, o.id, o.title FROM operations_operation o JOIN backups_backuprun r ON r.operation_id = o.id
WHERE o.state = ANY(%(active)s) AND r.policy_id = ANY(%(policies)s)
UNION ALL
SELECT b.policy_id, o.id, o.title FROM operations_operation o JOIN backups_restore t ON t.operation_id = o.id
JOIN backups_backup b ON b.id = t.backup_id
WHERE o.state = ANY(%(active)s) AND b.policy_id = ANY(%(policies)s)
ORDER BY 2
"""


def _active(policies: list[Policy]) -> dict[int, list[Operation]]:
    """Backups, restores and tests that wait or run, with their number and title."""
    found: dict[int, list[Operation]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(ACTIVE_OF, {"active": sorted(ACTIVE), "policies": [policy.pk for policy in policies]})
        for policy_id, number, title in cursor.fetchall():
            found[policy_id].append(Operation(pk=number, title=title))
    return found


def _points(sites: dict[int, Site]) -> None:
    """The last restore points of each site."""
    for point in RestorePoint.objects.filter(environment__in=sites).order_by("-pk")[: POINTS * max(1, len(sites))]:
        if len(sites[point.environment_id].points) < POINTS:
            sites[point.environment_id].points.append(point)
