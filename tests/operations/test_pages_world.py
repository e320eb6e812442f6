"""The page of the one switch, its banner on every page, and who may not touch it."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.operations import boundaries, engine, world
from controlplane.operations.models import Halt
from tests.operations.conftest import Ask
from tests.operations.recipes import plan_of
from tests.people import person

pytestmark = pytest.mark.django_db(transaction=True)


def post(client: Client, who: Person, name: str, **values: str) -> int:
    client.force_login(who)
    return client.post(reverse(name), values).status_code


def page(client: Client, who: Person, name: str = "world") -> str:
    client.force_login(who)
    return client.get(reverse(name)).content.decode()


@pytest.mark.parametrize("name", ["world-stop", "world-release"])
def test_only_admins_of_everything_touch_it(  # noqa: PLR0917 (fixtures)
    client: Client, alice: Person, bob: Person, charlie: Person, dana: Person, name: str
) -> None:
    local = person("lena", production=Role.ADMIN)
    for who in (alice, bob, charlie, dana, local):
        assert post(client, who, name, reason="because") == 403
    assert not Halt.objects.exists()
    assert Entry.objects.filter(action="access.denied").count() == 5
    client.logout()
    assert client.post(reverse(name), {"reason": "because"}).status_code == 302


def test_a_strangers_look_leads_to_the_sign_in(client: Client) -> None:
    for name in ("world", "world-banner"):
        assert client.get(reverse(name)).status_code == 302


def test_an_admin_stops_and_releases(client: Client, ada: Person) -> None:
    assert post(client, ada, "world-stop", reason=" ") == 422
    assert post(client, ada, "world-stop", reason="bad feeling") == 302
    assert post(client, ada, "world-stop", reason="again") == 409
    assert "Let everything go on" in page(client, ada)
    assert post(client, ada, "world-release", reason="all is well") == 302
    assert post(client, ada, "world-release") == 409
    shown = page(client, ada)
    assert "stopped by Ada, released by Ada" in shown
    assert "Stop everything" in shown


def test_every_page_says_so(client: Client, ada: Person, charlie: Person) -> None:
    assert "Everything is stopped" not in page(client, charlie, "approvals")
    world.stop(Actor(ada), "<b>bad</b> feeling")
    for name in ("approvals", "world", "world-banner", "tokens"):
        shown = page(client, charlie, name)
        assert "Everything is stopped" in shown
        assert "&lt;b&gt;bad&lt;/b&gt; feeling" in shown


def test_it_shows_what_stands_still_to_whom_it_may(
    client: Client, ask: Ask, ada: Person, dana: Person, charlie: Person
) -> None:
    queued = ask(scopes=("staging",))
    operation = ask(plan_of("a", "b"))

    def stop_it(boundary: str, operation_id: int, key: str) -> None:
        if (boundary, key) == ("effect_done", "a"):
            world.stop(Actor(ada), "bad feeling")

    boundaries.listeners.append(stop_it)
    engine.run(operation.pk, "w1")
    shown = page(client, dana)
    assert "stands still before b" in shown
    assert f'href="{queued.get_absolute_url()}"' in shown
    assert operation.get_absolute_url() not in page(client, charlie)
    client.force_login(dana)
    assert "stands still before b" in client.get(operation.get_absolute_url()).content.decode()


def test_programs_have_the_same_switch(client: Client, ada: Person, alice: Person) -> None:
    headers = {
        who: {"Authorization": f"Bearer {create_token(who, 'world', Role.ADMIN, 1, SYSTEM('test'))[1]}"}
        for who in (ada, alice)
    }

    def post(who: Person, path: str, **body: str) -> tuple[int, Any]:
        answer = client.post(f"/api/v1/world{path}", body, "application/json", headers=headers[who])
        return answer.status_code, answer.json()

    look = client.get("/api/v1/world", headers=headers[alice]).json()
    assert look == {"stopped": False, "by": "", "reason": "", "at": None}
    assert post(alice, "/stop", reason="x")[0] == 403
    status, said = post(ada, "/stop", reason="bad feeling")
    assert (status, said["stopped"], said["by"], said["reason"]) == (200, True, "Ada", "bad feeling")
    assert post(alice, "/release")[0] == 403
    assert post(ada, "/stop", reason="again")[0] == 409
    assert post(ada, "/release")[1]["stopped"] is False
