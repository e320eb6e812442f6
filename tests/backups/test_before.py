"""A deployment that backs up first gets its backup, whatever else waits in the queue."""

import pytest

from backups.models import Kind
from backups.services import request_backup, request_restore_point
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, claims, engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan, StepSpec
from environments.models import Environment
from tests.backups.company import Make
from tests.backups.crashes import Crash
from tests.operations import recipes

pytestmark = pytest.mark.django_db(transaction=True)
ARGUMENTS = {"environment": "production", "minutes": 60}
PLAN = Plan("deploy", (StepSpec("before", "back up", "backup.before", ARGUMENTS, timeout=60.0, safe_point=True),))


def test_it_is_not_behind_what_waits_for_the_deployment(
    make_policy: Make, production: Environment, alice: Person
) -> None:
    """A restore point was asked for before: it waits for the deployment, and whatever needs its locks waits for it."""
    policy = make_policy("db", kind=Kind.DATABASE)
    recipes.register()
    recipes.reset().plan = PLAN
    deployment = transitions.request(
        Actor(alice), kind="sample", title="Deploy", scopes=["production"], plan=PLAN, gates=[], reason="because",
        approvals_required=0,
    )  # fmt: skip
    point = request_restore_point(Actor(alice), production, name="before the sale", reason="because")
    nightly = request_backup(Actor(alice), policy, reason="every night")
    started: list[bool] = []

    def look(boundary: str, operation_id: int, step: str) -> None:
        if boundary != "effect_done" or operation_id != deployment.pk:
            return
        made = Operation.objects.get(part_of=deployment)
        started.extend(claims.claim(waiting.pk, "w2") is not None for waiting in (point, nightly, made))
        raise Crash

    boundaries.listeners.append(look)
    try:
        with pytest.raises(Crash):
            engine.run(deployment.pk, "w1")
    finally:
        boundaries.listeners.clear()
    assert started == [False, False, True]
