"""An operation in two environments is for who has the role in both; in one of them it is refused, in none it is not."""

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import Client
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.audit.models import Entry
from controlplane.operations.access import visible_operations
from controlplane.operations.inbox import waiting_for
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from controlplane.operations.stream import OperationSource
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)

READS = ("operation", "operation-status", "operation-actions", "operation-log", "operation-log-download")
WRITES = ("operation-approve", "operation-reject", "operation-cancel", "operation-resolve")


@pytest.fixture
def failover(ask: Ask) -> Operation:
    """It changes staging and production, and waits for its approval."""
    return ask(approvals=1, scopes=("staging", "production"))


@pytest.fixture
def half(charlie: Person) -> Person:
    """Approver of staging only."""
    Grant.objects.create(person=charlie, scope="staging", role=Role.APPROVER)
    return charlie


def said(operation: Operation) -> dict[str, str]:
    words = {"comment": "no", "reason": "no", "step": "one", "answer": "done", "attempt": "1"}
    return {"plan_digest": operation.plan_digest, **words}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(("who", "status"), [("half", 403), ("eve", 404), ("dana", 200)])
def test_who_may_read(  # noqa: PLR0917
    client: Client, failover: Operation, request: pytest.FixtureRequest, who: str, status: int, name: str
) -> None:
    client.force_login(request.getfixturevalue(who))
    assert client.get(reverse(name, args=[failover.pk])).status_code == status


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(("who", "status"), [("half", 403), ("eve", 404), ("dana", 403)])
def test_who_may_not_change_it(  # noqa: PLR0917
    client: Client, failover: Operation, request: pytest.FixtureRequest, who: str, status: int, name: str
) -> None:
    client.force_login(request.getfixturevalue(who))
    assert client.post(reverse(name, args=[failover.pk]), said(failover)).status_code == status
    failover.refresh_from_db()
    assert failover.state == State.AWAITING_APPROVAL
    assert not failover.approvals.exists()
    assert Entry.objects.filter(data__denied=True, actor=request.getfixturevalue(who).title_name).exists()


def test_lists_inbox_and_stream_keep_to_the_same(failover: Operation, half: Person, bob: Person) -> None:
    assert not visible_operations(Actor(half)).exists()
    assert not waiting_for(Actor(half)).exists()
    assert waiting_for(Actor(bob)).get() == failover
    with pytest.raises((Http404, PermissionDenied)):
        OperationSource().authorize(Actor(half), str(failover.pk))


@pytest.mark.parametrize(("who", "status"), [("half", 403), ("eve", 404)])
def test_programs_reach_no_further(
    client: Client, failover: Operation, request: pytest.FixtureRequest, who: str, status: int
) -> None:
    person = request.getfixturevalue(who)
    token = create_token(person, "x", Role.ADMIN, 1, Actor(person).who)[1]
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/api/v1/operations/{failover.pk}"
    assert client.get(path, headers=headers).status_code == status
    assert client.get(f"{path}/events", headers=headers).status_code == status
    body = {"plan_digest": failover.plan_digest}
    answer = client.post(f"{path}/approvals", body, content_type="application/json", headers=headers)
    assert answer.status_code == status
