"""The overview of recovery plans: could we move now, how long would it take, what would be lost, and why not."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups.models import Readiness, RecoveryClock, RecoveryKit, RecoveryPlan, Storage
from controlplane.accounts.models import Person
from tests.disaster.paper import plan
from tests.disaster.runs import asked, drilled, looked

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
QUERIES = 20
BYTES = 100_000


def get(client: Client, person: Person, path: str) -> str:
    client.force_login(person)
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode())


def test_without_a_plan_it_says_what_to_do(client: Client, alice: Person) -> None:
    assert "No recovery plan yet" in get(client, alice, "/recovery")


def test_a_plan_that_nobody_looked_at_yet(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    said = get(client, alice, "/recovery")
    assert "not looked at yet" in said and "none yet" in said
    assert "everything" not in said, "what nobody has looked at is not lost"


def test_both_promises_and_that_it_is_ready(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    looked(plan, minutes=12, predicted=600)
    said = get(client, alice, "/recovery")
    assert '<span class="state ok">ready</span>' in said
    assert "<b>12\N{NO-BREAK SPACE}m" in said and "of 1\N{NO-BREAK SPACE}h" in said
    assert "about 10\N{NO-BREAK SPACE}m" in said and "of 4\N{NO-BREAK SPACE}h" in said
    assert "Not ready" not in said


def test_why_it_is_not_ready_stands_beside_it(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    checks = [
        {"key": "ttl", "title": "TTL", "outcome": "not ready", "words": "it is 3600 s, make it 60"},
        {"key": "quota", "title": "Quota", "outcome": "unknown", "words": "it could not be asked"},
        {"key": "image", "title": "Image", "outcome": "ready", "words": "there"},
    ]
    looked(plan, ready=False, checks=checks)
    for path in ("/recovery", plan.get_absolute_url()):
        said = get(client, alice, path)
        assert "not ready" in said
        assert "it is 3600 s, make it 60" in said and "it could not be asked" in said
    whole = get(client, alice, plan.get_absolute_url())
    assert whole.index("TTL") < whole.index("Quota") < whole.index("Image"), "what is not well comes first"


def test_a_promise_that_is_broken_is_red(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    looked(plan, minutes=61, predicted=4 * 3600 + 1)
    said = get(client, alice, "/recovery")
    assert said.count('class="gauge bad"') == 2


def test_a_look_of_long_ago_says_so(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    look = looked(plan)
    Readiness.objects.filter(pk=look.pk).update(at=timezone.now() - timedelta(hours=2))
    assert "not looked at lately" in get(client, alice, "/recovery")


def test_which_side_serves_and_where_to_go_from_there(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    home = get(client, alice, "/recovery")
    assert "/recovery/main/failover" in home and "/recovery/main/failback" not in home
    RecoveryPlan.objects.update(active="standby")
    away = get(client, alice, "/recovery")
    assert "/recovery/main/failback" in away and "/recovery/main/failover" not in away


def test_drills_that_are_owed_and_kits_that_are_old(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    storage = Storage.objects.create(slug="elsewhere", kind="folder")
    RecoveryPlan.objects.update(kit_storage=storage)
    RecoveryClock.objects.create(plan=plan, drill_due_at=timezone.now() - timedelta(days=2))
    said = get(client, alice, "/recovery")
    assert "overdue" in said and "no kit yet" in said
    RecoveryClock.objects.update(drill_due_at=timezone.now() + timedelta(days=2))
    kit = RecoveryKit.objects.create(plan=plan, key="k", digest="d", content_digest="c")
    said = get(client, alice, "/recovery")
    assert "overdue" not in said and "no kit yet" not in said and "kit is old" not in said
    RecoveryKit.objects.filter(pk=kit.pk).update(made_at=timezone.now() - timedelta(days=3))
    assert "kit is old" in get(client, alice, "/recovery")


def test_the_last_drill_and_what_it_proved(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    drilled(plan, seconds=240)
    assert "proven in 4\N{NO-BREAK SPACE}m" in get(client, alice, "/recovery")
    drilled(plan, seconds=240, state="failed")
    assert "not proven" in get(client, alice, "/recovery")


def test_what_is_under_way_comes_first(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    operation = asked(alice, plan)
    said = get(client, alice, "/recovery")
    assert "failover asked for" in said and f"/recovery/runs/{operation.pk}" in said


@pytest.mark.parametrize("path", ["/recovery", "/recovery/main", "/recovery/main/drills"])
def test_the_price_of_a_page(
    client: Client, ada: Person, plan: RecoveryPlan, path: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(35):
        looked(plan)
        drilled(plan, seconds=240)
    client.force_login(ada)
    with django_assert_max_num_queries(QUERIES):
        answer: Any = client.get(path)
    assert answer.status_code == 200
    assert len(answer.content) < BYTES


def test_many_plans_cost_what_one_does(
    client: Client, alice: Person, plan: RecoveryPlan, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(8):
        there = plan.primary
        there.pk, there.slug = None, f"p{number}"
        there.save()
        other = RecoveryPlan(slug=f"other-{number}", name="Other", primary=there, standby=plan.standby,
                             database=plan.database, traffic=plan.traffic)  # fmt: skip
        other.save()
        looked(other)
        drilled(other, seconds=60)
    client.force_login(alice)
    with django_assert_max_num_queries(QUERIES):
        assert client.get("/recovery").content.decode().count('class="panel site"') == 9
