"""Every address of recovery, tried by a stranger, an outsider, a guest of another environment, and a viewer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import models
from django.test import Client
from django.urls import reverse

from backups.disaster import api
from backups.disaster.urls import urlpatterns
from backups.models import Recovery, RecoveryClock, RecoveryPlan
from controlplane.accounts.models import Grant, Person, Role
from controlplane.audit.models import Entry
from controlplane.operations.models import Operation
from tests.api.conftest import assert_problem, token
from tests.disaster.paper import plan
from tests.disaster.runs import drilled, looked

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
FORM = {
    "words": "all is dark", "reason": "because", "confirm": "production", "point": "replica", "rto_minutes": "5",
}  # fmt: skip
BODY: dict[str, dict[str, Any]] = {
    "failovers": {"words": "all is dark", "reason": "because"},
    "failbacks": {"words": "it is well", "reason": "because"},
    "drills": {"reason": "because"},
    "changes": {"rto_minutes": 5, "reason": "because"},
}
# By the name of a page: what one sends to it, the role it takes.
PAGES: dict[str, tuple[str, Role | None]] = {
    "recovery": ("GET", None),
    "recovery-run": ("GET", Role.VIEWER),
    "recovery-report": ("GET", Role.VIEWER),
    "recovery-plan": ("GET", Role.VIEWER),
    "recovery-plan-change": ("POST", Role.ADMIN),
    "recovery-failover": ("POST", Role.OPERATOR),
    "recovery-failback": ("POST", Role.OPERATOR),
    "recovery-drill": ("POST", Role.OPERATOR),
    "recovery-drills": ("GET", Role.VIEWER),
    "recovery-regions": ("GET", Role.VIEWER),
    "recovery-regions-mend": ("POST", Role.OPERATOR),
    "recovery-pulse": ("GET", Role.VIEWER),
}
NAMES = [path.name for path in urlpatterns if path.name in PAGES]
POSTS = [name for name in NAMES if PAGES[name][0] == "POST"]
ONE = [name for name in NAMES if PAGES[name][1]]
ROUTES = [
    (method, path)
    for path, view in api.router.path_operations.items()
    for operation in view.operations
    for method in operation.methods
]
BLIND = ("charlie", "eve", "guest")


@pytest.fixture
def guest(db: None) -> Person:
    """Operator in production alone: a plan is of two sides, so this is not enough to see it whole."""
    person = Person.objects.create_user("guest", password="guest-password-1", first_name="Guest")
    Grant.objects.create(person=person, scope="production", role=Role.OPERATOR)
    return person


@pytest.fixture(autouse=True)
def there(plan: RecoveryPlan) -> Iterator[None]:
    """A plan, looked at and rehearsed, which nobody may have touched in the end."""
    RecoveryClock.objects.create(plan=plan)
    looked(plan)
    drilled(plan, seconds=60)
    before = everything()
    yield
    assert everything() == before


def everything() -> list[Any]:
    """All that somebody could have changed."""
    kinds: list[type[models.Model]] = [RecoveryPlan, RecoveryClock, Recovery, Operation]
    return [list(one._default_manager.order_by("pk").values()) for one in kinds]


def address(name: str, *, missing: bool = False) -> str:
    if name in ("recovery-run", "recovery-report"):
        return reverse(name, args=[10**9 if missing else Operation.objects.get().pk])
    return reverse(name, args=[] if name == "recovery" else ["nothing" if missing else "main"])


def send(client: Client, name: str, *, missing: bool = False) -> Any:
    """As its form would."""
    where = address(name, missing=missing)
    return client.post(where, FORM) if name in POSTS else client.get(where)


def test_no_address_is_forgotten() -> None:
    assert {path.name for path in urlpatterns} == set(PAGES)
    assert len(ROUTES) == 9


@pytest.mark.parametrize("name", NAMES)
def test_a_stranger_is_sent_to_the_sign_in(client: Client, name: str) -> None:
    answer = send(client, name)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{reverse('login')}?next=/")


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("who", ["charlie", "eve"])
def test_who_sees_nothing_there_finds_nothing(
    client: Client, request: pytest.FixtureRequest, name: str, who: str
) -> None:
    client.force_login(request.getfixturevalue(who))
    assert send(client, name).status_code == 404
    assert Entry.objects.get(action="access.denied").actor == who.title()


@pytest.mark.parametrize("name", ONE)
def test_who_sees_one_side_alone_is_told_what_is_missing(client: Client, guest: Person, name: str) -> None:
    client.force_login(guest)
    assert send(client, name).status_code == 403


@pytest.mark.parametrize("who", BLIND)
def test_the_list_shows_nothing_of_elsewhere(client: Client, request: pytest.FixtureRequest, who: str) -> None:
    client.force_login(request.getfixturevalue(who))
    answer = send(client, "recovery")
    assert answer.status_code == 200
    assert "Production to DR" not in answer.content.decode()


@pytest.mark.parametrize("name", NAMES)
def test_a_viewer_looks_and_changes_nothing(client: Client, dana: Person, name: str) -> None:
    client.force_login(dana)
    answer = send(client, name)
    if name in POSTS:
        assert answer.status_code == 403
        assert Entry.objects.get(action="access.denied").actor == "Dana"
    else:
        # Of this plan nobody draws any customers.
        assert answer.status_code == (404 if name == "recovery-pulse" else 200)
        assert '<form method="post"' not in answer.content.decode().partition("<main")[2]


@pytest.mark.parametrize("name", ["recovery-failover", "recovery-failback"])
def test_a_viewer_is_not_shown_the_way_to_a_failover(client: Client, dana: Person, name: str) -> None:
    client.force_login(dana)
    assert client.get(address(name)).status_code == 403


def test_only_an_admin_changes_the_plan(client: Client, alice: Person, bob: Person) -> None:
    for person in (alice, bob):
        client.force_login(person)
        assert send(client, "recovery-plan-change").status_code == 403
        assert "Change the plan" not in client.get(address("recovery-plan")).content.decode()
    assert Entry.objects.filter(action="access.denied").count() == 2


@pytest.mark.parametrize("name", POSTS)
def test_a_form_of_elsewhere_is_refused(ada: Person, name: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    assert send(client, name).status_code == 403


@pytest.mark.parametrize("name", POSTS)
def test_nothing_is_changed_by_a_link(client: Client, ada: Person, name: str) -> None:
    client.force_login(ada)
    assert client.get(address(name)).status_code in (200, 405)


@pytest.mark.parametrize("name", ONE)
def test_what_is_not_there_is_not_found(client: Client, ada: Person, name: str) -> None:
    client.force_login(ada)
    assert send(client, name, missing=True).status_code == 404


# --- the API ------------------------------------------------------------------------------------------


def call(person: Person | None, method: str, path: str, cap: Role = Role.ADMIN) -> Any:
    body = json.dumps(BODY.get(path.rpartition("/")[2], {}))
    headers = {"Authorization": f"Bearer {token(person, cap)}"} if person else {}
    client = Client(raise_request_exception=False)
    where = f"/api/v1{path.replace('{slug:plan}', 'main')}"
    return client.generic(method, where, body, "application/json", headers=headers)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_program_without_a_token_gets_nowhere(method: str, path: str) -> None:
    assert_problem(call(None, method, path), 401)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("who", BLIND)
def test_a_program_of_who_sees_nothing_there(request: pytest.FixtureRequest, method: str, path: str, who: str) -> None:
    answer = call(request.getfixturevalue(who), method, path)
    if "{" in path:
        assert_problem(answer, 403 if who == "guest" else 404)
        assert Entry.objects.get(action="access.denied").actor == who.title()
    else:
        assert (answer.status_code, answer.json()) == (200, [])


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_program_of_a_viewer(dana: Person, method: str, path: str) -> None:
    if method == "GET":
        assert call(dana, method, path).status_code == 200
    else:
        assert_problem(call(dana, method, path), 403)


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "POST"])
def test_a_token_below_the_role(ada: Person, path: str) -> None:
    allowed = Role.APPROVER if path.endswith("changes") else Role.VIEWER
    assert_problem(call(ada, "POST", path, allowed), 403, f"the token allows only {allowed.label}")
