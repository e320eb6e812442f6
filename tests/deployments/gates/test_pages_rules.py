"""The page of an environment's rules, the checklist's page, and their API: who may, what is said, what changes."""

import json
from typing import Any

import pytest
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from deployments.models import ChecklistTick, FreezeWindow
from deployments.services import request_deployment
from tests.api.conftest import Calls, calls
from tests.deployments.gates.policies import rule
from tests.estate import Estate

__all__ = ["calls"]
pytestmark = pytest.mark.django_db
URL = "/environments/production/rules"
FREEZE = {"reason": "the fair", "starts": "2020-01-01T00:00", "ends": "2020-01-02T00:00", "zone": "Europe/Berlin",
          "rule": "FREQ=DAILY"}  # fmt: skip
ITEM = "the on-call knows"


@pytest.fixture
def operation(estate: Estate, alice: Person) -> Operation:
    """It waits for bob's word, and for a tick."""
    rule(estate, checklist=[ITEM])
    return request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="new"
    )


@pytest.mark.parametrize(
    ("name", "reads", "changes"), [("charlie", 404, 404), ("dana", 200, 403), ("alice", 200, 403), ("bob", 200, 302)]
)
def test_approvers_freeze_and_others_read(  # noqa: PLR0917 (fixtures)
    client: Client, estate: Estate, request: pytest.FixtureRequest, name: str, reads: int, changes: int
) -> None:
    client.force_login(request.getfixturevalue(name))
    assert client.get(URL).status_code == reads
    assert client.post(f"{URL}/freeze", FREEZE).status_code == changes
    window = FreezeWindow.objects.first()
    assert (window is not None) == (changes == 302)
    given = {"freeze": window.pk if window else 1, "reason": "called off"}
    assert client.post(f"{URL}/thaw", given).status_code == changes


def test_what_is_closed_says_so_and_when_it_opens(client: Client, estate: Estate, bob: Person) -> None:
    rule(estate, soak_minutes=30, incidents=["P1"], checklist=[ITEM], approvers={"sre": 1})
    client.force_login(bob)
    assert "open</span>" in text(client.get(URL))
    client.post(f"{URL}/freeze", FREEZE)
    page = text(client.get(URL))
    for words in ("the fair", "every day", "closed", "staging for 30 min", "1 of sre (nobody)", ITEM):
        assert words in page


@pytest.mark.parametrize(
    ("again", "rule_of_both"),
    [({}, ""), ({"again": "FREQ=YEARLY"}, "FREQ=YEARLY"), ({"rule": "FREQ=WEEKLY;BYDAY=FR"}, "FREQ=WEEKLY;BYDAY=FR")],
)
def test_it_comes_again_as_chosen_or_by_a_rule(
    client: Client, estate: Estate, bob: Person, again: dict[str, str], rule_of_both: str
) -> None:
    client.force_login(bob)
    assert client.post(f"{URL}/freeze", {**FREEZE, "rule": "", **again}).status_code == 302
    assert FreezeWindow.objects.get().rule == rule_of_both


@pytest.mark.parametrize(
    "wrong",
    [{"zone": "Mars"}, {"ends": "2019-01-01T00:00"}, {"rule": "FREQ=HOURLY"}, {"reason": ""}, {"starts": "x"},
     {"rule": "FREQ=DAILY;INTERVAL=0"},
     {"again": "FREQ=DAILY"}, {"again": "daily", "rule": ""},
     {"rule": "FREQ=DAILY;COUNT=5 DTSTART:20260101T000000Z"},
     {"starts": "0001-01-01T00:00", "ends": "0001-01-02T00:00"}],
)  # fmt: skip
def test_what_cannot_be_read_is_said_and_kept(
    client: Client, estate: Estate, bob: Person, wrong: dict[str, str]
) -> None:
    client.force_login(bob)
    answer = client.post(f"{URL}/freeze", {**FREEZE, **wrong})
    assert answer.status_code == 422
    assert "-01-02T00:00" in text(answer) or "2020-01-0" in text(answer), "what was typed is still there"
    assert not FreezeWindow.objects.exists()


@pytest.mark.parametrize(("name", "reads", "ticks"), [("charlie", 404, 404), ("dana", 200, 403), ("alice", 200, 302)])
def test_operators_tick(  # noqa: PLR0917 (fixtures)
    client: Client, operation: Operation, request: pytest.FixtureRequest, name: str, reads: int, ticks: int
) -> None:
    client.force_login(request.getfixturevalue(name))
    url = f"/deployments/{operation.pk}/checklist"
    assert client.get(url).status_code == reads
    assert client.post(url, {"item": ITEM}).status_code == ticks
    assert ChecklistTick.objects.exists() == (ticks == 302)
    if ticks == 302:
        again = client.post(url, {"item": ITEM})
        assert (again.status_code, "ticked already" in text(again)) == (409, True)
        assert "1 of 1 ticked" in text(client.get(operation.get_absolute_url()))


class TestApi:
    def test_a_freeze_and_its_end(self, estate: Estate, calls: Calls, bob: Person) -> None:
        sent = {
            "reason": "the fair",
            "zone": "UTC",
            "starts": "2020-01-01T00:00",
            "minutes": 1440,
            "rule": "FREQ=DAILY",
        }
        rules = post(calls(bob), "environments/production/freezes", sent, 200)
        assert (rules["open"], rules["opens"]) == (False, None)
        number = rules["freezes"][0]["id"]
        rules = post(calls(bob), f"environments/production/freezes/{number}/end", {"reason": "called off"}, 200)
        assert (rules["open"], rules["freezes"]) == (True, [])
        post(calls(bob), f"environments/production/freezes/{number}/end", {"reason": "again"}, 409)
        post(calls(bob), "environments/production/freezes", {**sent, "zone": "Mars"}, 422)

    def test_a_tick(self, operation: Operation, calls: Calls, alice: Person) -> None:
        found = post(calls(alice), f"deployments/{operation.pk}/ticks", {"item": ITEM}, 200)
        assert found["items"][0]["by"] == Actor(alice).who.name
        post(calls(alice), f"deployments/{operation.pk}/ticks", {"item": "x"}, 422)


def post(call: Any, path: str, body: dict[str, Any], status: int) -> Any:
    answer = Client().post(f"/api/v1/{path}", json.dumps(body), "application/json", headers=call.headers)
    assert answer.status_code == status, answer.content
    return answer.json()


def text(answer: Any) -> str:
    return str(answer.content.decode())
