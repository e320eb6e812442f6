"""Every address of backups, tried by a stranger, an outsider, a guest of another environment, and a viewer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import models
from django.test import Client
from django.urls import reverse

from backups import api, point_api, policy_api
from backups.models import Backup, Policy, PolicyClock, RestorePoint
from backups.urls import urlpatterns
from controlplane.accounts.models import Person, Role
from controlplane.audit.models import Entry
from controlplane.operations.models import Operation
from tests.api.conftest import assert_problem, token
from tests.backups.company import Make
from tests.backups.history import entry

pytestmark = pytest.mark.django_db
FORM = {
    "reason": "because", "name": "a point", "what": "hold", "confirm": "production", "plan_digest": "0" * 64,
    "shown": "0" * 16, "schedule": "0 5 * * *",
}  # fmt: skip
BODY: dict[str, dict[str, Any]] = {
    "restores": {"target": "configuration", "reason": "because"},
    "restore-points": {"name": "a point", "reason": "because"},
    "/restore-points/{int:point_id}/restores": {"reason": "because"},
    "plan": {"target": "configuration"},
    "changes": {"schedule": "0 5 * * *", "reason": "because"},
    "clean-ups": {"digest": "0" * 16, "reason": "because"},
}
# By the name of a page: what one sends to it, the role it takes.
PAGES = {
    "backups": ("GET", None),
    "backup-catalog": ("GET", None),
    "backup": ("GET", Role.VIEWER),
    "backup-test": ("POST", Role.OPERATOR),
    "backup-hold": ("POST", Role.OPERATOR),
    "backup-restore": ("POST", Role.OPERATOR),
    "backup-policy": ("GET", Role.VIEWER),
    "backup-run": ("POST", Role.OPERATOR),
    "backup-pause": ("POST", Role.OPERATOR),
    "backup-change": ("POST", Role.ADMIN),
    "backup-clean": ("POST", Role.OPERATOR),
    "restore-point": ("POST", Role.OPERATOR),
    "restore-point-make": ("POST", Role.OPERATOR),
}
POSTS = [name for name, (method, _) in PAGES.items() if method == "POST"]
ONE = [name for name, (_, role) in PAGES.items() if role]
ROUTES = [
    (method, path)
    for router in (api.router, policy_api.router, point_api.router)
    for path, view in router.path_operations.items()
    for operation in view.operations
    for method in operation.methods
]


@pytest.fixture(autouse=True)
def there(make_policy: Make) -> Iterator[None]:
    """A policy with a backup and a restore point, which nobody may have touched in the end."""
    policy = make_policy()
    kept = entry(policy)
    RestorePoint.objects.create(environment=policy.environment, name="first", made_by_name="x").backups.add(kept)
    before = everything()
    yield
    assert everything() == before


def everything() -> list[Any]:
    """All that somebody could have changed."""
    kinds: list[type[models.Model]] = [Policy, PolicyClock, Backup, RestorePoint, Operation]
    return [list(one._default_manager.order_by("pk").values()) for one in kinds]


def address(name: str) -> str:
    pk = RestorePoint.objects.get().pk if name == "restore-point" else Backup.objects.get().pk
    arguments: dict[str, list[Any]] = {"backups": [], "backup-catalog": [], "restore-point-make": ["production"]}
    takes = {path.name: path.pattern.converters for path in urlpatterns}[name]
    named = ["production", "configuration"] if "environment" in takes else [pk]
    return reverse(name, args=arguments.get(name, named))


def send(client: Client, name: str) -> Any:
    """As its form would; a restore with its wish in the address."""
    if PAGES[name][0] == "GET":
        return client.get(address(name))
    query = "?target=configuration" if name == "backup-restore" else ""
    return client.post(address(name) + query, FORM)


def test_no_address_is_forgotten() -> None:
    assert [path.name for path in urlpatterns] == list(PAGES)
    assert len(ROUTES) == 19


@pytest.mark.parametrize("name", PAGES)
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
    denied = Entry.objects.get(action="access.denied")
    assert denied.actor == who.title()


@pytest.mark.parametrize("name", ["backups", "backup-catalog"])
@pytest.mark.parametrize("who", ["charlie", "eve"])
def test_lists_show_nothing_of_elsewhere(client: Client, request: pytest.FixtureRequest, name: str, who: str) -> None:
    client.force_login(request.getfixturevalue(who))
    answer = send(client, name)
    assert answer.status_code == 200
    assert "production" not in answer.content.decode()


@pytest.mark.parametrize("name", PAGES)
def test_a_viewer_looks_and_changes_nothing(client: Client, dana: Person, name: str) -> None:
    client.force_login(dana)
    answer = send(client, name)
    if name in POSTS:
        assert answer.status_code == 403
        assert Entry.objects.get(action="access.denied").actor == "Dana"
    else:
        assert answer.status_code == 200
        assert '<form method="post"' not in answer.content.decode().partition("<main")[2]


def test_a_viewer_looks_at_a_restore_point_and_is_offered_nothing(client: Client, dana: Person) -> None:
    client.force_login(dana)
    answer = client.get(address("restore-point"))
    assert answer.status_code == 200
    assert "Ask for the restore" not in answer.content.decode()


def test_only_an_admin_changes_the_rules(client: Client, alice: Person, bob: Person) -> None:
    for person in (alice, bob):
        client.force_login(person)
        assert send(client, "backup-change").status_code == 403
        assert "Change schedule and rules" not in client.get(address("backup-policy")).content.decode()
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
    path = address(name).replace("configuration", "nothing").replace("production", "nowhere")
    number = str((RestorePoint if name == "restore-point" else Backup).objects.get().pk)
    path = path.replace(number, "999999999999")
    assert (client.post(path, FORM) if name in POSTS else client.get(path)).status_code == 404


# --- the API ------------------------------------------------------------------------------------------


def call(person: Person | None, method: str, path: str, cap: Role = Role.ADMIN) -> Any:
    body = json.dumps(BODY.get(path, BODY.get(path.rpartition("/")[2], {"reason": "because"})))
    path = path.replace("{slug:environment}", "production").replace("{slug:slug}", "configuration")
    path = path.replace("{int:backup_id}", str(Backup.objects.get().pk))
    path = path.replace("{int:point_id}", str(RestorePoint.objects.get().pk))
    headers = {"Authorization": f"Bearer {token(person, cap)}"} if person else {}
    client = Client(raise_request_exception=False)
    return client.generic(method, f"/api/v1{path}", body, "application/json", headers=headers)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_program_without_a_token_gets_nowhere(method: str, path: str) -> None:
    assert_problem(call(None, method, path), 401)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("who", ["charlie", "eve"])
def test_a_program_of_who_sees_nothing_there(request: pytest.FixtureRequest, method: str, path: str, who: str) -> None:
    answer = call(request.getfixturevalue(who), method, path)
    if "{" in path:
        assert_problem(answer, 404)
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
    answer = call(ada, "POST", path, allowed)
    assert_problem(answer, 403, f"the token allows only {allowed.label}")


def test_a_program_of_no_admin_does_not_change_the_rules(alice: Person, bob: Person) -> None:
    for person in (alice, bob):
        assert_problem(call(person, "POST", f"{policy_api.ONE}/changes"), 403, "needs the role")
