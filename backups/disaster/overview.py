"""Every recovery plan at a glance: the two promises, which side serves, the last drill, the kit; in few queries."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import OuterRef, Q
from django.db.models.functions import Now

from backups.disaster.access import visible_plans
from backups.disaster.base import NOT_READY, READY, UNKNOWN
from backups.disaster.panels import Panel, panels_of
from backups.disaster.readiness import FRESH
from backups.models import Readiness, Recovery, RecoveryClock, RecoveryKit, RecoveryPlan
from backups.overview import Promise
from controlplane.accounts.access import Actor
from controlplane.operations import attached
from controlplane.operations.states import ACTIVE, BEFORE_START, FINISHED, State
from controlplane.web.tones import Tone

# A kit is made anew each day, and whenever the plan has changed: one that is older was missed twice.
OLD_KIT = timedelta(days=2)
# How late the drill that is due may begin: the clock needs a moment, and the queue perhaps some more.
LATE_DRILL = timedelta(hours=1)
# What lists do not show: a plan of steps is long.
HEAVY = ("operation__plan", "operation__gates", "operation__search")

TONES = {READY: Tone.OK, UNKNOWN: Tone.WAIT, NOT_READY: Tone.BAD}


@dataclass(frozen=True)
class Looked:
    """One thing that was looked at, as a page shows it. word: the outcome."""

    title: str
    tone: Tone
    word: str
    words: str


@dataclass
class PlanView:
    """One plan with all that the overview says of it. now: by the database. look: the latest one at its readiness."""

    plan: RecoveryPlan
    now: datetime
    look: Readiness | None = None
    kit: RecoveryKit | None = None
    drill: Recovery | None = None
    active: list[Recovery] = field(default_factory=list)

    @property
    def rpo(self) -> Promise:
        """What would be lost now: the age of the newest thing that one could restore."""
        to = self.look.restorable_to if self.look else None
        lost = max(0.0, (self.now - to).total_seconds()) if to else None
        return Promise(lost, self.plan.rpo_seconds)

    @property
    def rto(self) -> Promise:
        """How long a failover would take, by what its steps took before; None while nobody has ever done them."""
        return Promise(self.look.predicted_seconds if self.look else None, self.plan.rto_seconds)

    @property
    def rto_is_least(self) -> bool:
        """Of some steps nobody knows anything: it takes at least so long."""
        return self.look is not None and bool(self.look.predicted.get("unknown"))

    @property
    def rto_tone(self) -> Tone:
        """Of the second promise: what was never rehearsed is no failure yet, but nothing to rely on either."""
        return Tone.WAIT if self.rto.now is None else self.rto.tone

    @property
    def is_stale(self) -> bool:
        """Nobody has looked for too long: what was seen then says little about now."""
        return self.look is not None and self.now - self.look.at > FRESH

    @property
    def word(self) -> str:
        """How it stands, in two or three words."""
        if self.active:
            first = self.active[0]
            doing = "asked for" if first.operation.state in BEFORE_START else "under way"
            return f"{first.get_kind_display()} {doing}"
        if self.look is None:
            return "not looked at yet"
        if not self.look.ready:
            return "not ready"
        return "not looked at lately" if self.is_stale else "ready"

    @property
    def tone(self) -> Tone:
        """The same as a tone."""
        if self.active:
            return Tone.BUSY
        if self.look is None:
            return Tone.IDLE
        if not self.look.ready or self.rpo.tone == Tone.BAD:
            return Tone.BAD
        return Tone.WAIT if self.is_stale or self.rpo.tone == Tone.WAIT else Tone.OK

    @property
    def looked(self) -> list[Looked]:
        """What the look found, what is not well first."""
        checks = self.look.checks if self.look else []
        order = [NOT_READY, UNKNOWN, READY]
        known = [one for one in checks if one["outcome"] in order]
        known.sort(key=lambda one: order.index(one["outcome"]))
        return [Looked(one["title"], TONES[one["outcome"]], one["outcome"], one["words"]) for one in known]

    @property
    def trouble(self) -> list[Looked]:
        """Of these, what keeps it from being ready: what nobody could see is not known to be well."""
        return [one for one in self.looked if one.tone != Tone.OK]

    @property
    def because(self) -> str:
        """Why it is not ready, in one line; "" when it is."""
        if self.look is None or self.look.ready:
            return ""
        return "; ".join(f"{one.title}: {one.words.rstrip('.')}" for one in self.trouble) or "the last look says so"

    @property
    def clock(self) -> RecoveryClock | None:
        """When what the clock does for it is due; None before the plan was declared whole."""
        return getattr(self.plan, "clock", None)

    @property
    def drill_due_at(self) -> datetime | None:
        """When the next drill is due; None without a schedule."""
        return self.clock.drill_due_at if self.clock else None

    @property
    def drill_is_overdue(self) -> bool:
        """It was due and was not done."""
        clock = self.clock
        if clock is None:
            return False
        late = clock.drill_due_at is not None and self.now - clock.drill_due_at > LATE_DRILL
        return late or clock.overdue_said_at is not None

    @property
    def drill_took(self) -> float | None:
        """Seconds until people could have been served, or, of one that failed, until its end."""
        return took(self.drill) if self.drill else None

    @property
    def drill_is_proven(self) -> bool:
        """The last one came to a good end."""
        return self.drill is not None and self.drill.operation.state == State.SUCCEEDED

    @property
    def kit_word(self) -> str:
        """How the kit stands: "" when it is fresh, or when nobody wants one."""
        if self.plan.kit_storage_id is None:
            return ""
        if self.kit is None:
            return "no kit yet"
        return "kit is old" if self.now - self.kit.made_at > OLD_KIT else ""

    @property
    def panels(self) -> Sequence[Panel]:
        """What others show of it."""
        return panels_of(self.plan)

    @property
    def is_away(self) -> bool:
        """The standby serves people: there is a way home to go."""
        return self.plan.active == RecoveryPlan.Side.STANDBY


def took(recovery: Recovery) -> float | None:
    """Seconds until people were served; of one that did not get there, until it ended; None while it goes on."""
    if recovery.rto_seconds is not None:
        return recovery.rto_seconds
    operation = recovery.operation
    if operation.started_at is None or operation.finished_at is None:
        return None
    return (operation.finished_at - operation.started_at).total_seconds()


def overview(actor: Actor) -> list[PlanView]:
    """Every plan that the person sees."""
    plans = list(visible_plans(actor).select_related("clock").annotate(asked_at=Now()))
    return views_of(plans, vars(plans[0])["asked_at"]) if plans else []


def _looks_and_kits(plans: Sequence[RecoveryPlan]) -> tuple[dict[int, Readiness], dict[int, RecoveryKit]]:
    """The last look at each plan, and its last kit, by the plan's primary key: one query."""
    looks = Readiness.objects.filter(plan=OuterRef("pk")).order_by("-at", "-pk")[:1]
    kits = RecoveryKit.objects.filter(plan=OuterRef("pk")).order_by("-made_at", "-pk")[:1]
    rows = RecoveryPlan.objects.filter(pk__in=[plan.pk for plan in plans])
    found = list(rows.order_by("pk").values_list("pk", attached.rows(looks), attached.rows(kits)))
    return (
        {pk: one for pk, column, _ in found for one in attached.made_of(Readiness, column)},
        {pk: one for pk, _, column in found for one in attached.made_of(RecoveryKit, column)},
    )


def views_of(plans: Sequence[RecoveryPlan], now: datetime) -> list[PlanView]:
    """What the pages say of these plans, in the same order. now: by the database."""
    looks, kits = _looks_and_kits(plans)
    recoveries = Recovery.objects.filter(plan__in=plans).select_related("operation").defer(*HEAVY)
    ended = recoveries.filter(kind=Recovery.Kind.DRILL, operation__state__in=FINISHED - {State.CANCELLED})
    last = ended.order_by("plan_id", "-operation_id").distinct("plan_id").values("pk")
    drills: dict[int, Recovery] = {}
    active: dict[int, list[Recovery]] = defaultdict(list)
    for one in recoveries.filter(Q(operation__state__in=ACTIVE) | Q(pk__in=last)).order_by("operation_id"):
        if one.operation.state in ACTIVE:
            active[one.plan_id].append(one)
        else:
            drills[one.plan_id] = one
    return [
        PlanView(plan, now, looks.get(plan.pk), kits.get(plan.pk), drills.get(plan.pk), active[plan.pk])
        for plan in plans
    ]
