"""The board: what needs a person first, what runs where, how well, what moves, at a fixed price."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.clock.models import Beat
from controlplane.operations import boundaries, engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.services import request_deployment
from environments.locks import take
from environments.models import Environment, HealthSample, Placement
from tests.estate import Estate, place

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def clock(db: None) -> None:
    """A clock that was just seen."""
    Beat.objects.create(name="clock")


def board(client: Client, person: Person) -> str:
    client.force_login(person)
    return client.get("/").content.decode()


def ask(estate: Estate, person: Person, version: str = "1.5.0") -> Operation:
    release = estate.releases[version]
    return request_deployment(Actor(person), environment=estate.production, release=release, reason="checkout fix")


def heard(placement: Placement, **healthy: bool) -> None:
    """Probes of just now, by instance."""
    for name, well in healthy.items():
        HealthSample.objects.create(
            placement=placement, instance=name.replace("_", "-"), healthy=well, latency_ms=4 if well else None,
            status=200 if well else 503, version=placement.version,
        )  # fmt: skip


def test_who_sees_what(client: Client, estate: Estate, charlie: Person, dana: Person) -> None:
    assert client.get("/").status_code == 302
    assert "Production" not in board(client, charlie)
    assert "No environment to show" in board(client, charlie)
    Grant.objects.create(person=charlie, scope="staging", role=Role.VIEWER)
    seen = board(client, charlie)
    assert "Staging" in seen
    assert "Production" not in seen
    assert "Production" in board(client, dana)


def test_only_operators_get_links_to_change_it(client: Client, estate: Estate, alice: Person, dana: Person) -> None:
    assert "/environments/production/deploy" in board(client, alice)
    assert "/environments/production/rollback/api" in board(client, alice)
    assert "/deploy" not in board(client, dana).replace("/deployments", "")


def test_health_is_counted_by_instance(client: Client, estate: Estate, dana: Person) -> None:
    placement = Placement.objects.get(environment=estate.production)
    assert "not probed lately" in board(client, dana)
    heard(placement, production_1=True, production_2=True, production_3=False)
    assert "2/3 healthy" in board(client, dana)
    HealthSample.objects.update(at=Now() - timedelta(minutes=5))
    assert "2/3 healthy" not in board(client, dana)


def test_what_needs_this_person_comes_first(client: Client, estate: Estate, alice: Person, bob: Person) -> None:
    take(Actor(alice), estate.staging, "drill")
    ask(estate, alice)
    seen = board(client, bob)
    assert "Deploy api 1.5.0 to production waits for your approval" in seen
    assert seen.index("waits for your approval") < seen.index("Staging is locked")
    assert "by Alice: drill" in seen
    assert "waits for an approval" in board(client, alice)
    assert "waits for your approval" not in board(client, alice)


def test_what_moves_shows_how_far(
    client: Client, estate: Estate, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = ask(estate, alice)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    seen: list[str] = []

    def listen(boundary: str, _: int, step: str) -> None:
        if (boundary, step) == ("effect_done", "production-2-swap"):
            seen.append(board(client, alice))

    monkeypatch.setattr(boundaries, "listeners", [listen])
    engine.run(operation.pk, "w1")
    assert "production-2, 2 of 3" in seen[0]
    assert 'value="33"' in seen[0]
    after = board(client, alice)
    assert "1.5.0" in after
    assert "production-2, 2 of 3" not in after


def test_silence_is_said(client: Client, estate: Estate, alice: Person, bob: Person) -> None:
    operation, at_work = ask(estate, alice), ask(estate, alice)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    assert "No worker answers" not in board(client, alice)
    Operation.objects.filter(pk=operation.pk).update(queued_at=timezone.now() - timedelta(minutes=1))
    assert "No worker answers" in board(client, alice)
    Operation.objects.filter(pk=at_work.pk).update(state=State.RUNNING, lease_until=Now() + timedelta(minutes=1))
    assert "No worker answers" not in board(client, alice)  # it is busy, which is another matter
    assert "The clock stands still" not in board(client, alice)
    Beat.objects.update(beat_at=Now() - timedelta(minutes=1))
    assert "The clock stands still" in board(client, alice)


def test_a_doubt_asks_for_an_operator(client: Client, estate: Estate, alice: Person) -> None:
    operation = ask(estate, alice)
    Operation.objects.filter(pk=operation.pk).update(state=State.NEEDS_OPERATOR, outcome="Look at production-1.")
    seen = board(client, alice)
    assert "needs an operator" in seen
    assert "Look at production-1." in seen


def test_it_costs_the_same_however_much_there_is(
    client: Client, estate: Estate, alice: Person, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(12):
        environment = Environment.objects.create(slug=f"e{number}", name=f"E {number}", driver="paper", position=9)
        heard(place(environment, estate.service, estate.releases["1.4.0"], 2), **{f"e{number}_1": True})
        take(Actor(alice), environment, "busy")
    for _ in range(15):
        ask(estate, alice)
    client.force_login(alice)
    with django_assert_max_num_queries(20):
        answer = client.get("/")
    assert answer.status_code == 200
    assert len(answer.content) < 100_000


def test_news_fetches_the_part_only(client: Client, estate: Estate, alice: Person) -> None:
    client.force_login(alice)
    part = client.get("/", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="_board"')
    assert "<html" not in part


def test_who_sees_nothing_is_told_of_no_operation(
    client: Client, estate: Estate, charlie: Person, alice: Person, bob: Person
) -> None:
    operation = ask(estate, alice)
    transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
    Operation.objects.update(queued_at=Now() - timedelta(minutes=1))
    said = board(client, charlie)
    assert "No worker answers" in said
    assert f"/operations/{operation.pk}" not in said
    assert f"operation {operation.pk}" not in said
