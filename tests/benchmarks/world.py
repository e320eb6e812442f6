"""How soon the one switch holds everything: from the click until the last of eight running operations stands still.

Eight operations of real workers are each somewhere in a step of one second, with a safe point before each. An admin
presses the switch as a browser does. What is then counted, in seconds of the database's clock:

* from before the click until each operation is held, which has the rest of its step in it;
* from the end of that step until it is held, which is what the switch itself costs;
* how many steps began after the click was answered.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db.models import Max
from django.test import Client
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.clock.database import database_time
from controlplane.operations import transitions
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State, StepState
from tests.operations import held

OPERATIONS, ROUNDS = 8, 25
STEPS, STEP_SECONDS = 60, 1.0
PATIENCE_SECONDS = 120.0
PROMISED = {"max_s": (0, 5.0), "begun_after_the_click": (0, 0)}


def run() -> dict[str, Any]:
    """The figures of `bin/bench world`."""
    held.register()
    person = Person.objects.create(username="bench")
    Grant.objects.create(person=person, scope="*", role=Role.ADMIN)
    client = Client(SERVER_NAME="localhost")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    held_after: list[float] = []
    own: list[float] = []
    last: list[float] = []
    late = 0
    with tempfile.TemporaryDirectory() as name, held.workers(OPERATIONS, Path(name) / "worker.log"):
        for number in range(ROUNDS):
            times, costs, begun = _round(client, Actor(person), number)
            held_after += times
            own += costs
            last.append(max(times))
            late += begun
    return {
        "operations": OPERATIONS,
        "rounds": ROUNDS,
        "p99_s": round(_p99(held_after), 2),
        "max_s": round(max(held_after), 2),
        "median_of_the_last_s": round(sorted(last)[len(last) // 2], 2),
        "own_p99_s": round(_p99(own), 2),
        "own_max_s": round(max(own), 2),
        "begun_after_the_click": late,
    }


def _round(client: Client, actor: Actor, number: int) -> tuple[list[float], list[float], int]:
    """Seconds from the click, seconds from the end of the step, and how many steps began too late."""
    plan = held.plan_of([f"s{step}" for step in range(STEPS)], STEP_SECONDS)
    ids = []
    for one in range(OPERATIONS):
        ids.append(held.ask(actor, f"bench-{number}-{one}", plan).pk)
        time.sleep(STEP_SECONDS / OPERATIONS)  # so that each is somewhere else in its step
    those = Operation.objects.filter(pk__in=ids)
    steps = Step.objects.filter(operation__in=ids)
    _wait(lambda: steps.filter(state=StepState.RUNNING).count() == OPERATIONS)
    clicked = database_time()
    assert client.post(reverse("world-stop"), {"reason": "bench"}).status_code == 302
    answered = database_time()
    _wait(lambda: those.exclude(paused_at=None).count() == OPERATIONS)
    ended: dict[int, datetime] = dict(
        steps.filter(state=StepState.SUCCEEDED).values_list("operation").annotate(Max("finished_at"))
    )
    paused = {pk: at for pk, at in those.values_list("pk", "paused_at") if at}
    late = steps.filter(started_at__gt=answered).count()
    for pk in ids:
        transitions.cancel(pk, actor, "seen")
    assert client.post(reverse("world-release"), {"reason": "bench"}).status_code == 302
    _wait(lambda: those.filter(state=State.CANCELLED).count() == OPERATIONS)
    return (
        [(paused[pk] - clicked).total_seconds() for pk in ids],
        [(paused[pk] - max(ended[pk], clicked)).total_seconds() for pk in ids if pk in ended],
        late,
    )


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "the workers do not get there"
        time.sleep(0.02)


def _p99(values: list[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]
