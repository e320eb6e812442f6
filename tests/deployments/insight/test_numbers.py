"""The query of the four keys says what a reader would count by hand, and reads no more than the time asked for."""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State
from deployments.insight.keys import KEYS, Keys, Place, keys_by_week, last_good
from deployments.insight.numbers import NumbersPage
from deployments.insight.trouble import Trouble
from deployments.models import Deployment, Release
from environments.models import Environment, Service
from tests.deployments.insight.by_hand import Change, judge, keys_of
from tests.estate import Estate, release

pytestmark = pytest.mark.django_db
WEEK = timedelta(days=7)
# So many before the time that is asked for: as many rows as PostgreSQL would rather not read.
OLD = 4000
FILL = """
    INSERT INTO operations_operation (kind, title, scopes, lock_names, state, reason, plan, plan_digest, gates,
        approvals_required, approver_role, approver_groups, requested_by_name, requested_at, queued_at, started_at,
        finished_at, cancel_requested_by_name, cancel_reason, outcome, worker, fence, last_seq)
    SELECT 'deployment', 'old', '{production}', '{production}', 'succeeded', 'x', '{"steps": [], "recovery": []}',
        repeat('0', 64), '[]', 0, 'approver', '[]', 'Alice', t, t, t, t, '', '', '', '', 0, 0
    FROM (SELECT now() - interval '300 days' - n * interval '1 minute' AS t FROM generate_series(1, %s) n) AS rows
"""
ATTACH = """
    INSERT INTO deployments_deployment (operation_id, kind, environment_id, release_id, strategy, from_version,
        from_digest)
    SELECT id, 'deploy', %s, %s, 'rolling', '', '' FROM operations_operation WHERE title = 'old'
"""


def change(environment: Environment, made: Release, began: datetime, ended: datetime, **values: Any) -> Change:
    """One that ran, in the database and in plain Python."""
    told: dict[str, Any] = {"state": State.SUCCEEDED, "kind": Deployment.Kind.DEPLOY, "put_back": False, **values}
    plan = {"summary": "", "steps": [], "recovery": [], "changes": []}
    operation = Operation.objects.create(
        kind="deployment", title="x", scopes=["production"], lock_names=["production"], state=told["state"], plan=plan,
        reason="why", plan_digest="0" * 64, requested_by_name="Alice", started_at=began, finished_at=ended,
    )  # fmt: skip
    Deployment.objects.create(operation=operation, environment=environment, release=made, kind=told["kind"])
    if told["put_back"]:
        Step.objects.create(operation=operation, position=0, key="back", phase="recovery", state="succeeded")
    return Change(
        operation.pk, made.pk, told["kind"] == Deployment.Kind.ROLLBACK, told["state"] == State.SUCCEEDED,
        began, ended, made.created_at, bool(told["put_back"]),
    )  # fmt: skip


def history(estate: Estate, dice: random.Random, since: datetime) -> list[Change]:
    """Some weeks of good and bad deployments and rollbacks, one after the other, some from before the time."""
    releases = [release(estate.service, f"7.0.{number}") for number in range(6)]
    at, found = since - timedelta(days=2), []
    for _ in range(40):
        began = at + timedelta(minutes=dice.randint(1, 700))
        at = began + timedelta(minutes=dice.randint(1, 60))
        state = dice.choice([State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.CANCELLED])
        kind = dice.choice([Deployment.Kind.DEPLOY] * 4 + [Deployment.Kind.ROLLBACK])
        bad = state != State.SUCCEEDED
        put_back = bad and dice.random() < 0.5
        one = change(estate.production, dice.choice(releases), began, at, state=state, kind=kind, put_back=put_back)
        found.append(one)
    return found


def by_hand(changes: list[Change], troubles: list[Trouble], since: datetime) -> tuple[Keys, dict[int, Keys]]:
    judged = [one for one in judge(changes, troubles) if one.change.ended >= since]
    weeks = {(one.change.ended - since) // WEEK for one in judged}
    return keys_of(judged), {
        week: keys_of([one for one in judged if (one.change.ended - since) // WEEK == week]) for week in weeks
    }


@pytest.mark.parametrize("seed", range(8))
def test_it_says_what_one_counts_by_hand(estate: Estate, seed: int) -> None:
    dice = random.Random(seed)
    since = (timezone.now() - timedelta(days=60)).replace(microsecond=0)
    Release.objects.update(created_at=since - timedelta(days=10))
    changes = history(estate, dice, since)
    troubles = []
    for one in dice.sample(changes, 12):
        began = one.ended + timedelta(minutes=dice.choice([0, 5, 59, 60, 61]))
        troubles.append(Trouble(began, began + timedelta(minutes=30) if dice.random() < 0.7 else None))
    troubles.sort(key=lambda one: one.began)
    # What is told of the time before it begins is not the query's to say.
    troubles = [one for one in troubles if one.began >= since + timedelta(hours=2)]
    whole, weeks = keys_by_week(Place(estate.service, estate.production, since), troubles)
    wanted, wanted_weeks = by_hand(changes, troubles, since)
    assert (whole.frequency, whole.ran, whole.wrong) == (wanted.frequency, wanted.ran, wanted.wrong)
    assert whole.lead == pytest.approx(wanted.lead)
    assert whole.restore == pytest.approx(wanted.restore)
    assert weeks.keys() == wanted_weeks.keys()
    for week, keys in weeks.items():
        assert (keys.frequency, keys.ran, keys.wrong) == tuple(
            getattr(wanted_weeks[week], name) for name in ("frequency", "ran", "wrong")
        )


def test_other_services_and_environments_are_not_counted(estate: Estate) -> None:
    now = timezone.now()
    change(estate.production, estate.releases["1.4.0"], now - timedelta(hours=2), now - timedelta(hours=1))
    other = release(Service.objects.create(slug="web", name="Web"), "1.0.0")
    change(estate.production, other, now - timedelta(hours=2), now - timedelta(hours=1))
    change(estate.staging, estate.releases["1.4.0"], now - timedelta(hours=2), now - timedelta(hours=1))
    assert NumbersPage(estate.service, estate.production).whole.ran == 1


def test_an_incident_blames_the_last_change_of_whatever_service(estate: Estate) -> None:
    now = timezone.now()
    minute = timedelta(minutes=1)
    web = Service.objects.create(slug="web", name="Web")
    change(estate.production, estate.releases["1.4.0"], now - 60 * minute, now - 55 * minute)
    change(estate.production, release(web, "1.0.0"), now - 20 * minute, now - 10 * minute)
    trouble = [Trouble(now - 5 * minute, None)]
    since = now - WEEK
    assert keys_by_week(Place(estate.service, estate.production, since), trouble)[0].wrong == 0
    assert keys_by_week(Place(web, estate.production, since), trouble)[0].wrong == 1


def test_nothing_is_nothing(estate: Estate) -> None:
    page = NumbersPage(estate.service, estate.production, "26")
    assert page.whole == Keys(0, 0, 0, None, None)
    assert len(page.by_week) == 26
    assert page.steps == []


def test_what_is_older_is_not_read(estate: Estate) -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL, [OLD])
        cursor.execute(ATTACH, [estate.production.pk, estate.releases["1.4.0"].pk])
        now = timezone.now()
        change(estate.production, estate.releases["1.5.0"], now - timedelta(hours=2), now - timedelta(hours=1))
        cursor.execute("ANALYZE operations_operation, deployments_deployment")
        place = Place(estate.service, estate.production, now - timedelta(days=30))
        cursor.execute(f"EXPLAIN ANALYZE {KEYS}", {**place.names, "begun": [], "over": []})
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "operation_ended" in plan, plan
    assert "Seq Scan on operations_operation" not in plan, plan
    assert "Seq Scan on deployments_deployment" not in plan, plan
    assert keys_by_week(place, [])[0].ran == 1
    assert len(last_good(place, 200)) == 1


def failed_an_hour_ago(estate: Estate, *steps: tuple[str, str]) -> Keys:
    """One that took five minutes. steps: phase and state of each; the next good one ends half an hour later."""
    began = timezone.now() - timedelta(hours=1)
    ended = began + timedelta(minutes=5)
    bad = change(estate.production, estate.releases["1.6.0"], began, ended, state=State.FAILED)
    for number, (phase, state) in enumerate(steps):
        Step.objects.create(operation_id=bad.operation, position=number, key=f"{number}", phase=phase, state=state)
    change(estate.production, estate.releases["1.5.0"], ended, ended + timedelta(minutes=30))
    return keys_by_week(Place(estate.service, estate.production, began - timedelta(days=1)), [])[0]


def test_what_was_put_back_in_part_is_restored_by_the_next_that_succeeds(estate: Estate) -> None:
    steps = ("main", "failed"), ("recovery", "succeeded"), ("recovery", "skipped")
    assert failed_an_hour_ago(estate, *steps).restore == 35 * 60


def test_what_failed_before_anything_was_touched_had_nothing_to_restore(estate: Estate) -> None:
    keys = failed_an_hour_ago(estate, ("main", "succeeded"), ("main", "failed"), ("recovery", "pending"))
    assert (keys.wrong, keys.restore) == (1, None)


def test_what_was_stopped_half_way_is_restored_by_the_next_that_succeeds(estate: Estate) -> None:
    assert failed_an_hour_ago(estate, ("main", "succeeded"), ("main", "pending")).restore == 35 * 60
