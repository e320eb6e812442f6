"""The API is called with a token, which acts as its person and never above its own role."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from controlplane.accounts.models import ApiToken, Person, Role
from controlplane.accounts.tokens import revoke
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.operations.models import Operation
from tests.api.conftest import Calls, assert_problem, token
from tests.estate import Estate


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer cp_nobody", "Bearer \0é", "Basic YTpi", "cp_x"])
def test_a_stranger_is_asked_for_a_token(db: None, header: str) -> None:
    answer = Client().get("/api/v1/environments", headers={"Authorization": header})
    assert_problem(answer, 401, "Authorization: Bearer")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_ends_with_its_time_its_revocation_or_its_person(alice: Person, calls: Calls) -> None:
    caller = calls(alice)
    assert caller.get("environments").status_code == 200

    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert_problem(caller.get("environments"), 401)
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(days=1))
    assert caller.get("environments").status_code == 200

    revoke(ApiToken.objects.get(), SYSTEM("test"))
    assert_problem(caller.get("environments"), 401)

    caller = calls(alice)
    Person.objects.update(is_active=False)
    assert_problem(caller.get("environments"), 401)


def test_a_session_is_not_a_token(alice: Person, estate: Estate) -> None:
    client = Client()
    client.force_login(alice)
    assert_problem(client.get("/api/v1/environments"), 401)
    body = {"service": "api", "environment": "production", "version": "1.5.0", "reason": "x"}
    assert_problem(client.post("/api/v1/deployments", body, content_type="application/json"), 401)


def test_the_role_of_the_token_caps_that_of_the_person(alice: Person, estate: Estate, calls: Calls) -> None:
    refused = calls(alice, Role.VIEWER).deploy()
    assert_problem(refused, 403, "token allows only viewer")
    assert not Operation.objects.exists()
    assert calls(alice, Role.OPERATOR).deploy().status_code == 201


def test_the_token_gives_no_role_that_the_person_lacks(dana: Person, estate: Estate, calls: Calls) -> None:
    assert_problem(calls(dana, Role.ADMIN).deploy(), 403)


def test_the_audit_trail_names_person_and_token(alice: Person, estate: Estate, calls: Calls) -> None:
    calls(alice).deploy()
    entry = Entry.objects.get(action="operation.requested")
    assert (entry.actor, entry.via) == ("Alice", "api token pipeline")


def test_the_scheme_may_be_written_in_any_case(alice: Person) -> None:
    answer = Client().get("/api/v1/environments", headers={"Authorization": f"bearer {token(alice)}"})
    assert answer.status_code == 200


def test_the_description_is_open(db: None) -> None:
    answer = Client().get("/api/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.")
