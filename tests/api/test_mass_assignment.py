"""What nobody is asked for is not taken from them: in the API it is refused by name, in forms it has no effect."""

import pytest
from django.test import Client

from controlplane.accounts.models import ApiToken, Person
from controlplane.operations.models import Operation
from environments.models import EnvironmentLock
from tests.api.conftest import Calls, assert_problem
from tests.api.test_outsiders import ROUTES, body_for
from tests.estate import Estate

pytestmark = pytest.mark.django_db
FORGED = {"requested_by_name": "Ada", "state": "succeeded", "approvals_required": 0, "person": 1}


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "POST"])
@pytest.mark.parametrize("field", FORGED)
def test_no_body_of_the_api_takes_more(
    alice: Person, there: dict[str, str], calls: Calls, path: str, field: str
) -> None:
    body = {**body_for(path), field: FORGED[field]}
    assert_problem(calls(alice).post(path.format(**there), body), 422, f"body.{field}")
    assert Operation.objects.get().state == "awaiting_approval"


def test_a_lock_has_the_author_who_took_it(client: Client, alice: Person, estate: Estate) -> None:
    client.force_login(alice)
    client.post("/environments/production/lock", {"reason": "x", "author_name": "Ada", "released_by_name": "Ada"})
    lock = EnvironmentLock.objects.get()
    assert (lock.author_name, lock.released_by_name, lock.released_at) == ("Alice", "", None)


def test_a_token_is_ones_own(client: Client, alice: Person, ada: Person) -> None:
    client.force_login(alice)
    wanted = {"name": "x", "role": "viewer", "lifetime_days": "30"}
    client.post("/tokens", wanted | {"person": ada.pk, "person_id": ada.pk})
    assert ApiToken.objects.get().person == alice


def test_a_deployment_is_asked_for_by_who_asks(client: Client, alice: Person, estate: Estate) -> None:
    client.force_login(alice)
    release = estate.releases["1.5.0"]
    page = client.get(f"/environments/production/deploy?release={release.pk}")
    digest = page.context["draft"].plan.digest
    wanted = {"release": release.pk, "plan_digest": digest, "reason": "x", "confirm": "production"}
    answer = client.post("/environments/production/deploy", wanted | FORGED | {"kind": "rollback"})
    assert answer.status_code == 302
    operation = Operation.objects.get()
    assert (operation.requested_by_name, operation.state, operation.approvals_required) == (
        "Alice", "awaiting_approval", 1,
    )  # fmt: skip
