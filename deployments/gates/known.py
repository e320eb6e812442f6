"""What PostgreSQL knows of an environment and a release, as far as gates depend on it: read in one query."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce, Greatest, JSONObject, Least, Now

from controlplane.operations.attached import made_of, rows
from controlplane.operations.models import OperationLock
from deployments.by_digest import releases_with
from deployments.gates.turn import Held
from deployments.models import ChecklistTick, FreezeWindow, Policy, Release, ReleaseEvidence
from environments.models import Environment, EnvironmentLock, Placement


@dataclass(frozen=True)
class Known:
    """now: the database's time. placement: of the service there; former: the release that runs there, if it is known.

    worst: of this release and of those on the way to it from the former one, the newer end of the way included, the one
    whose migrations can least be taken back; None where this release runs already. there: where the release runs in the
    environment before. freezes, locks: those that hold. held: who else is changing the environment. ticked: of this
    operation. evidence: of the release, what was reported last comes last.
    """

    now: datetime
    policy: Policy
    placement: Placement | None = None
    former: Release | None = None
    worst: Release | None = None
    there: Placement | None = None
    freezes: Sequence[FreezeWindow] = field(default_factory=list)
    locks: Sequence[EnvironmentLock] = field(default_factory=list)
    held: Held | None = None
    ticked: frozenset[str] = frozenset()
    evidence: Sequence[ReleaseEvidence] = field(default_factory=list)


def know(environment: Environment, release: Release, operation_id: int | None) -> Known:
    """operation_id: the operation that the gates are asked for, None before there is one."""
    here = environment.pk
    placements = Placement.objects.filter(service=release.service_id)
    runs = placements.filter(environment=here).exclude(digest="")
    former = releases_with(
        release.service_id, runs.values_list("digest", flat=True), runs.values_list("version", flat=True)
    )
    there = placements.filter(environment__slug=environment.promoted_from, digest=release.digest)
    others = OperationLock.objects.filter(name=environment.slug).exclude(operation_id=operation_id or 0)
    row = (
        Environment.objects.filter(pk=environment.pk)
        .annotate(
            now=Now(),
            rules=rows(Policy.objects.filter(environment=here)),
            own=rows(placements.filter(environment=here).order_by("pk")),
            former=rows(former[:1]),
            worst=rows(_hardest_to_take_back(release, former)[:1]),
            there=rows(there.order_by("pk")),
            closed=rows(FreezeWindow.objects.filter(environment=here, ended_at=None).order_by("pk")),
            locks=rows(EnvironmentLock.objects.filter(environment=here, released_at=None).order_by("-taken_at")),
            held=ArraySubquery(others.values(row=JSONObject(id="operation_id", title="operation__title"))),
            ticks=rows(ChecklistTick.objects.filter(operation_id=operation_id or 0).order_by("pk")),
            evidence=rows(ReleaseEvidence.objects.filter(release=release.pk).order_by("added_at", "pk")),
        )
        .values("now", "rules", "own", "former", "worst", "there", "closed", "locks", "held", "ticks", "evidence")
        .get()
    )
    policy = next(iter(made_of(Policy, row["rules"])), Policy())
    policy.environment = environment
    return Known(
        now=row["now"],
        policy=policy,
        placement=next(iter(made_of(Placement, row["own"])), None),
        former=next(iter(made_of(Release, row["former"])), None),
        worst=next(iter(made_of(Release, row["worst"])), None),
        there=next(iter(made_of(Placement, row["there"])), None),
        freezes=made_of(FreezeWindow, row["closed"]),
        locks=made_of(EnvironmentLock, row["locks"]),
        held=next((Held(one["id"], one["title"]) for one in row["held"]), None),
        ticked=frozenset(one.item for one in made_of(ChecklistTick, row["ticks"])),
        evidence=made_of(ReleaseEvidence, row["evidence"]),
    )


def _hardest_to_take_back(release: Release, former: QuerySet[Release]) -> QuerySet[Release]:
    """Who goes from one release to another takes the migrations of those between along, forth or back.

    Who deploys again what runs already takes none along: its own ran long ago.
    """
    runs = Subquery(former.values("pk")[:1])  # of nothing known: both ends are the release itself
    oldest, newest = Least(runs, Value(release.pk)), Greatest(runs, Value(release.pk))
    worth = Case(
        When(migrations=Release.Migrations.ONE_WAY, then=Value(0)),
        When(migrations=Release.Migrations.UNKNOWN, then=Value(1)),
        default=Value(2),
    )
    along = Release.objects.filter(service=release.service_id, pk__range=(oldest, newest))
    its_own = Q(pk=release.pk) & ~Q(pk=Coalesce(runs, Value(0)))
    return along.filter(Q(pk__gt=oldest) | its_own).order_by(worth, "-pk")
