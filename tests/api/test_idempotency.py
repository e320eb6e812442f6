"""Idempotency-Key: a request that is sent again has one effect and gets the first answer."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.functions import Now

from controlplane.accounts.models import Grant, Person
from controlplane.audit.models import Entry
from controlplane.operations import ticks
from controlplane.operations.models import IdempotencyKey, Operation
from deployments import api as deployments_api
from deployments.services import request_deployment
from tests.api.conftest import Calls, assert_problem
from tests.estate import Estate


def test_the_first_answer_is_given_again(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    first, second = caller.deploy(key="run-1"), caller.deploy(key="run-1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first.headers["Content-Type"] == second.headers["Content-Type"]
    assert Operation.objects.count() == 1


def test_without_a_key_or_with_another_it_is_another_request(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    for key in (None, None, "run-1", "run-2"):
        assert caller.deploy(key=key).status_code == 201
    assert Operation.objects.count() == 4


def test_the_key_belongs_to_the_person_not_to_the_token(
    alice: Person, ada: Person, estate: Estate, calls: Calls
) -> None:
    numbers = [calls(person).deploy(key="run-1").json()["operation"] for person in (alice, alice, ada)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_the_same_key_with_another_request_is_422(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    number = caller.deploy(key="run-1").json()["operation"]
    assert_problem(caller.deploy("1.4.0", key="run-1"), 422, "used for another request")
    assert_problem(caller.post(f"operations/{number}/cancel", {"reason": "x"}, "run-1"), 422)
    assert Operation.objects.get().state == "awaiting_approval"


def test_the_same_body_at_another_address_is_another_request(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    one, other = (caller.deploy().json()["operation"] for _ in range(2))
    assert caller.post(f"operations/{one}/cancel", {"reason": "x"}, "stop").status_code == 200
    assert_problem(caller.post(f"operations/{other}/cancel", {"reason": "x"}, "stop"), 422)


def test_a_refusal_is_given_again_and_recorded_once(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    asked = caller.deploy().json()
    path, body = f"operations/{asked['operation']}/approvals", {"plan_digest": asked["plan_digest"]}
    first, second = caller.post(path, body, "mine"), caller.post(path, body, "mine")
    assert_problem(first, 403)
    assert (first.content, first.headers["Content-Type"]) == (second.content, second.headers["Content-Type"])
    assert Entry.objects.filter(data__denied=True).count() == 1


def test_a_conflict_is_given_again(alice: Person, bob: Person, estate: Estate, calls: Calls) -> None:
    asked = calls(alice).deploy().json()
    path, body = f"operations/{asked['operation']}/approvals", {"plan_digest": "0" * 64}
    answers = [calls(bob).post(path, body, "sign") for _ in range(2)]
    assert_problem(answers[0], 409)
    assert answers[0].content == answers[1].content


def test_who_lost_the_role_gets_no_kept_answer(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    assert caller.deploy(key="run-1").status_code == 201
    Grant.objects.update(role="viewer")
    assert_problem(caller.deploy(key="run-1"), 403)
    Grant.objects.all().delete()
    assert_problem(caller.deploy(key="run-1"), 404)


@pytest.mark.parametrize("key", ["", "a b", "k" * 201, "é", "tab\there"])
def test_a_key_is_short_visible_text(alice: Person, estate: Estate, calls: Calls, key: str) -> None:
    assert_problem(calls(alice).deploy(key=key), 422, "Idempotency-Key")
    assert not Operation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_request_that_broke_may_be_sent_again(
    alice: Person, estate: Estate, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Effect and answer stand or fall together: what broke after the effect left neither."""
    caller = calls(alice)
    with monkeypatch.context() as broken:
        broken.setattr(deployments_api, "DeploymentOut", lambda **values: 1 / 0)
        assert_problem(caller.deploy(key="run-1"), 500)
    assert not Operation.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert caller.deploy(key="run-1").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_two_that_arrive_at_once_have_one_effect(
    alice: Person, estate: Estate, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is in the middle of its effect, and waits for it."""
    in_the_middle, go_on = threading.Event(), threading.Event()

    def slowly(*values: Any, **named: Any) -> Operation:
        operation = request_deployment(*values, **named)
        in_the_middle.set()
        assert go_on.wait(40)
        return operation

    monkeypatch.setattr(deployments_api, "request_deployment", slowly)
    answers: dict[str, Any] = {}

    def send(name: str) -> None:
        answers[name] = caller.deploy(key="run-1")
        connections.close_all()

    caller = calls(alice)
    first = threading.Thread(target=send, args=["first"])
    second = threading.Thread(target=send, args=["second"])
    first.start()
    assert in_the_middle.wait(40)
    second.start()
    wait_until_blocked()
    go_on.set()
    first.join(20)
    second.join(20)
    assert [answers[name].status_code for name in ("first", "second")] == [201, 201]
    assert answers["first"].content == answers["second"].content
    assert Operation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_crowd_has_one_effect(alice: Person, estate: Estate, calls: Calls) -> None:
    caller, answers = calls(alice), []
    start = threading.Barrier(6)

    def send() -> None:
        start.wait(20)
        answers.append(caller.deploy(key="run-1").content)
        connections.close_all()

    crowd = [threading.Thread(target=send) for _ in range(6)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(30)
    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert Operation.objects.count() == 1


def wait_until_blocked() -> None:
    """Until a session of this database waits for the transaction of another."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'"
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(waiting)
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits")


def test_keys_are_kept_for_a_day(alice: Person, estate: Estate, calls: Calls) -> None:
    caller = calls(alice)
    for key in ("old", "new"):
        caller.deploy(key=key)
    IdempotencyKey.objects.filter(key="old").update(at=Now() - timedelta(hours=24, seconds=1))
    IdempotencyKey.objects.filter(key="new").update(at=Now() - timedelta(hours=23, minutes=59))
    assert ticks.forget_keys() == 1
    assert IdempotencyKey.objects.get().key == "new"
