"""How long a failover would take, step by step, from what such steps took before: drills, failovers, restore tests.

For each step, the first of these that is known: 1. what it took in this plan's last recoveries, in the middle; 2. what
steps of the same function took in any plan's; 3. what is declared here. What none of them knows is named, and the sum
is then the least that it takes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.db.models import F, QuerySet

from backups.models import Recovery, RecoveryPlan
from controlplane.operations.models import Operation, Step
from controlplane.operations.plans import StepSpec
from controlplane.operations.states import State, StepState

LOOK_BACK = 5  # recoveries, the latest
Took = Mapping[str, list[float]]
CALL, SETTLE = 5.0, 30.0
# Seconds that a step takes where nobody has seen it yet: one call; something small that is waited for; and what AWS
# says of its own (a restore "can take several minutes to hours": the guide's plan counts with twenty).
DECLARED = {
    **dict.fromkeys(
        ("recovery.assess", "recovery.configure", "recovery.measure", "recovery.tell", "postgres.fence",
         "postgres.fenced", "postgres.open", "postgres.swap", "postgres.verify", "rds.aside", "rds.make", "rds.copy",
         "rds.snapshot", "rds.verify", "route53.change", "flag.set", "local-names.withdraw", "local-names.withdrawn",
         "local-names.switch", "local-names.verify", "ecs.scale-register", "ecs.scale", "local.halt", "local.gone"),
        CALL,
    ),
    **dict.fromkeys(
        ("recovery.outside", "postgres.catch_up", "postgres.promote", "rds.open", "rds.point", "flag.stands",
         "local.check-all"),
        SETTLE,
    ),
    "route53.spread": 60.0,
    "ecs.down": 120.0,
    "ecs.scaled": 480.0,
    "rds.fence": 60.0,
    "rds.fenced": 180.0,
    "rds.promote": 300.0,
    "rds.snapshot-finished": 900.0,
    "rds.available": 1200.0,
}  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """seconds: of all steps, None when nothing like it was ever done. steps: those that are known, by key.

    estimated: the keys of those that this plan never did. unknown: the keys of those of which nobody knows anything.
    """

    seconds: float | None
    steps: Mapping[str, float]
    unknown: tuple[str, ...] = ()
    estimated: tuple[str, ...] = ()

    @property
    def is_least(self) -> bool:
        """It takes at least so long: of some steps nobody knows anything."""
        return self.seconds is not None and bool(self.unknown)

    def as_json(self) -> dict[str, Any]:
        """Plain data, as kept with a recovery and with a look."""
        return {
            "seconds": self.seconds, "steps": dict(self.steps), "unknown": list(self.unknown),
            "estimated": list(self.estimated),
        }  # fmt: skip


def predict(plan: RecoveryPlan, specs: Iterable[StepSpec]) -> Prediction:
    """The sum over the steps. A drill's steps count as the real ones: they do the same, only elsewhere.

    A plan of which not one step was ever done is not predicted by guesses: it has to be rehearsed.
    """
    steps = list(specs)
    done = _last(Recovery.objects.filter(plan=plan))
    own, alike = _took(done)
    if not any(step.key in own for step in steps):
        return Prediction(None, {}, tuple(step.key for step in steps))
    missing = any(step.key not in own and step.function not in alike for step in steps)
    anywhere = _took(_last(Recovery.objects.all()))[1] if missing else {}
    known: dict[str, float] = {}
    for step in steps:
        usual = own.get(step.key) or alike.get(step.function) or anywhere.get(step.function)
        seconds = median(usual) if usual else DECLARED.get(step.function)
        if seconds is not None:
            known[step.key] = seconds
    return Prediction(
        sum(known.values()), known, tuple(step.key for step in steps if step.key not in known),
        tuple(key for key in known if key not in own),
    )  # fmt: skip


def _last(recoveries: QuerySet[Recovery]) -> list[int]:
    """The operations of the latest that succeeded."""
    good = recoveries.filter(operation__state=State.SUCCEEDED)
    return list(good.order_by("-operation_id").values_list("operation_id", flat=True)[:LOOK_BACK])


def _took(operations: list[int]) -> tuple[Took, Took]:
    """Seconds of the steps of these: by key, and by function."""
    plans = Operation.objects.filter(pk__in=operations).values_list("pk", "plan")
    functions = {
        (pk, step["key"]): step["function"] for pk, plan in plans for step in (*plan["steps"], *plan["recovery"])
    }
    rows = Step.objects.filter(
        operation__in=operations, state=StepState.SUCCEEDED, started_at__isnull=False, finished_at__isnull=False
    ).annotate(took=F("finished_at") - F("started_at"))
    by_key: dict[str, list[float]] = defaultdict(list)
    by_function: dict[str, list[float]] = defaultdict(list)
    for operation, key, took in rows.values_list("operation_id", "key", "took"):
        by_key[key].append(took.total_seconds())
        by_function[functions[operation, key]].append(took.total_seconds())
    return by_key, by_function
