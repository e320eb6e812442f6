"""What the engine costs: 200 operations of 10 empty steps, against the bare durable writes that they need."""

import time
from typing import Any

from django.db import connection

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.operations import recipes

OPERATIONS = 200
STEPS = 10


def run() -> dict[str, Any]:
    """The figures of `bin/bench engine`."""
    recipes.register()
    recipes.reset().plan = recipes.empty_plan(STEPS)
    person = Person.objects.create(username="bench")
    Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
    # Interleaved, half and half: what else the machine does falls on both.
    ours = bare = 0.0
    for part in range(4):
        ours += _ours(Actor(person), OPERATIONS // 4, part)
        bare += _bare(OPERATIONS // 4)
    assert Operation.objects.filter(state=State.SUCCEEDED).count() == OPERATIONS
    return {
        "ms_per_step": round(ours / OPERATIONS / STEPS * 1000, 2),
        "operations_per_s": round(OPERATIONS / ours, 1),
        "ratio_to_insert": round(ours / bare, 2),
    }


def _ours(actor: Actor, count: int, part: int) -> float:
    ids = [
        transitions.request(
            actor, kind="sample", title="Empty", scopes=[f"bench-{part}-{number}"], plan=recipes.world.plan, gates=[],
            reason="bench", approvals_required=0,
        ).pk
        for number in range(count)
    ]  # fmt: skip
    began = time.perf_counter()
    for operation_id in ids:
        engine.run(operation_id, "bench")
    return time.perf_counter() - began


def _bare(count: int) -> float:
    """The same truth kept with nothing around it: intent and end of each step, start and end of each operation.

    One transaction each, as a crash may come between any two: a row changed and an event inserted.
    """
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bare_step, bare_event")
        cursor.execute("CREATE TABLE bare_step (id bigint PRIMARY KEY, state text)")
        cursor.execute(
            "CREATE TABLE bare_event (operation bigint, seq bigint, text text, PRIMARY KEY (operation, seq))"
        )
        cursor.execute("INSERT INTO bare_step SELECT g, 'pending' FROM generate_series(0, %s) g", [count * (STEPS + 1)])
        began = time.perf_counter()
        for operation in range(count):
            for seq in range((STEPS + 1) * 2):
                row = operation * (STEPS + 1) + seq // 2
                cursor.execute("BEGIN")
                cursor.execute(
                    "UPDATE bare_step SET state = %s WHERE id = %s", ["running" if seq % 2 == 0 else "done", row]
                )
                cursor.execute("INSERT INTO bare_event VALUES (%s, %s, %s)", [operation, seq, "step: done"])
                cursor.execute("COMMIT")
        return time.perf_counter() - began
