"""The page of both regions: it reads rows alone, shows names and never values, and offers one button to who may."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from backups.disaster.region_mends import request_mend
from backups.disaster.uploads.comparing import Totals
from backups.models import RecoveryPlan, RegionLook, RegionMend, UploadsComparison
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.audit.models import Entry
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.api.conftest import token
from tests.disaster.paper import plan
from tests.people import person

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
PAGE, MEND = "/recovery/main/regions", "/recovery/main/regions/mend"
FOLDERS = {"kind": "folder", "primary": {"path": "uploads"}, "standby": {"path": "uploads-dr"}}
READY = {"outcome": "ready", "words": "can be read"}
FACTS: dict[str, Any] = {
    "uploads": {"kind": "folder", "checks": [{"title": "Uploads can be read", **READY}]},
    "database": {"candidates": [{"title": "replica pitchey-dr", "as_of": "2026-11-28T10:00:00+00:00"}], "more": 2,
                 "checks": [{"title": "Replica follows", "outcome": "not ready", "words": "it is 3 h behind"}]},
    "images": {"images": [{"service": "api", "version": "1.4.0", "digest": "sha256:4", "source": READY,
                           "target": {"outcome": "unknown", "words": "not known: nobody says"}}]},
    "configuration": {"secrets": [{"name": "JWT_SECRET", "source": READY,
                                   "target": {"outcome": "not ready", "words": "cannot be read"}}],
                      "same": 7, "different": ["LOG_LEVEL"], "only_source": ["ONLY_HERE"], "only_target": [],
                      "swapped": ["DATABASE_URL"]},
    "kit": {"outcome": "ready", "words": "in west", "made_at": "2026-11-28T09:00:00+00:00"},
}  # fmt: skip


@pytest.fixture
def folders(plan: RecoveryPlan, data_dir: Any) -> RecoveryPlan:
    plan.uploads = FOLDERS
    plan.save()
    return plan


def looked(plan: RecoveryPlan, *, minutes: float = 1) -> None:
    at = timezone.now() - timedelta(minutes=minutes)
    RegionLook.objects.create(plan=plan, source="production", at=at, facts=FACTS)


def compared(plan: RecoveryPlan, **totals: Any) -> None:
    values = Totals(**{"source_count": 1200, "source_bytes": 5_000_000, "target_count": 1190, **totals}).as_json()
    UploadsComparison.objects.create(
        plan=plan, source="production", whole=True, finished_at=timezone.now(), totals=values
    )


def get(client: Client, who: Person, path: str = PAGE) -> str:
    client.force_login(who)
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode())


def test_before_anybody_looked(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    said = get(client, alice)
    assert "not looked at yet" in said and "manage.py clock" in said


def test_both_sides_beside_each_other(client: Client, alice: Person, folders: RecoveryPlan) -> None:
    looked(folders)
    compared(folders, missing=10, missing_bytes=9_000, late=3, newer=2, extra=1, examples=[["x/y.png", "missing"]])
    said = get(client, alice)
    assert "1200" in said and "1190" in said
    assert "<b>10</b>" in said and "3 should be there by now" in said
    assert "never written over" in said and "x/y.png" in said
    for words in ("replica pitchey-dr", "it is 3 h behind", "not known: nobody says", "JWT_SECRET", "cannot be read",
                  "LOG_LEVEL", "ONLY_HERE", "DATABASE_URL", "in west"):  # fmt: skip
        assert words in said, words
    assert '<span class="state bad">something is missing</span>' in said


def test_programs_read_the_same(client: Client, dana: Person, folders: RecoveryPlan) -> None:
    where = "/api/v1/recovery-plans/main/regions"
    headers = {"Authorization": f"Bearer {token(dana, Role.VIEWER)}"}
    before = client.get(where, headers=headers).json()
    assert (before["at"], before["uploads"], before["points"], before["kit"]) == (None, None, [], None)
    looked(folders)
    compared(folders, missing=7, late=2)
    said = client.get(where, headers=headers).json()
    assert (said["source"], said["target"], said["stale"]) == ("production", "dr", False)
    assert said["word"] == "something is missing"
    assert (said["uploads"]["missing"], said["uploads"]["late"]) == (7, 2)
    assert said["database"] == [{"title": "Replica follows", "outcome": "not ready", "words": "it is 3 h behind"}]
    assert said["points"][0]["title"] == "replica pitchey-dr"
    assert said["images"][0]["target"]["outcome"] == "unknown"
    assert (said["secrets"][0]["name"], said["kit"]["outcome"]) == ("JWT_SECRET", "ready")


def test_what_was_brought_over_is_not_missing_any_more(client: Client, alice: Person, folders: RecoveryPlan) -> None:
    looked(folders)
    compared(folders, missing=10, copied=9, left=1, trouble=[["odd.bin", "refused"]], examples=[["x", "missing"]])
    said = get(client, alice)
    assert "<b>1</b>" in said and "odd.bin" in said and "refused" in said
    assert '<span class="mono">x</span>' not in said


def test_a_look_of_long_ago_says_so(client: Client, alice: Person, folders: RecoveryPlan) -> None:
    facts = {"kit": FACTS["kit"]}
    RegionLook.objects.create(plan=folders, source="production", at=timezone.now() - timedelta(hours=2), facts=facts)
    assert "not looked at lately" in get(client, alice)


def test_a_look_the_other_way_round_is_not_shown(client: Client, alice: Person, folders: RecoveryPlan) -> None:
    looked(folders)
    RecoveryPlan.objects.update(active="standby")
    said = get(client, alice)
    assert "not looked at yet" in said and "JWT_SECRET" not in said


def test_the_other_pages_lead_there(client: Client, alice: Person, plan: RecoveryPlan) -> None:
    for path in ("/recovery", "/recovery/main"):
        assert f'href="{PAGE}"' in get(client, alice, path)


def test_the_button_asks_for_an_operation_that_mends(client: Client, alice: Person, folders: RecoveryPlan,
                                                      data_dir: Any) -> None:  # fmt: skip
    (data_dir / "uploads").mkdir()
    (data_dir / "uploads" / "a").write_bytes(b"1")
    looked(folders)
    client.force_login(alice)
    answer = client.post(MEND, {"reason": "after the outage"})
    operation = Operation.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/operations/{operation.pk}")
    assert (operation.kind, operation.state, operation.lock_names) == ("region-mend", State.QUEUED, ["uploads/main"])
    assert "is on its way" not in get(client, alice) and "Compare now and mend" not in get(client, alice)
    assert f"/operations/{operation.pk}" in get(client, alice)
    engine.run(operation.pk, "w1")
    assert (data_dir / "uploads-dr" / "a").read_bytes() == b"1"
    assert RegionLook.objects.get().due_at <= timezone.now(), "looked at again at once"
    assert "Compare now and mend" in get(client, alice)


def test_twice_is_once(client: Client, alice: Person, folders: RecoveryPlan) -> None:
    client.force_login(alice)
    client.post(MEND, {"reason": "x"})
    answer = client.post(MEND, {"reason": "what I typed"})
    assert answer.status_code == 409
    assert "is on its way already" in answer.content.decode()
    assert Operation.objects.count() == 1


def test_it_wants_a_reason_and_something_to_compare(client: Client, alice: Person, folders: RecoveryPlan) -> None:
    client.force_login(alice)
    answer = client.post(MEND, {"reason": "  "})
    assert (answer.status_code, "Say why" in answer.content.decode()) == (422, True)
    assert client.post(MEND, {"reason": "x" * 2001}).status_code == 422
    RecoveryPlan.objects.update(uploads={})
    answer = client.post(MEND, {"reason": "x"})
    assert (answer.status_code, "names no uploads" in answer.content.decode()) == (422, True)
    assert not Operation.objects.exists()


def test_a_request_that_people_left_behind_is_stale(alice: Person, folders: RecoveryPlan) -> None:
    """A failover came between: from then on it would go the wrong way."""
    operation = request_mend(Actor(alice), folders, reason="x")
    RecoveryPlan.objects.update(active="standby")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.STALE


def test_a_failover_does_not_wait_for_it(alice: Person, folders: RecoveryPlan) -> None:
    operation = request_mend(Actor(alice), folders, reason="x")
    assert not set(operation.lock_names) & {"production", "dr", "recovery/main"}


# --- the wrong person -----------------------------------------------------------------------------------


@pytest.fixture
def eve(db: None) -> Person:
    """May do everything on one side only."""
    return person("eve", production=Role.ADMIN)


def test_a_stranger_is_sent_to_the_sign_in(client: Client, folders: RecoveryPlan) -> None:
    for answer in (client.get(PAGE), client.post(MEND, {"reason": "x"})):
        assert (answer.status_code, answer["Location"].startswith("/login")) == (302, True)


@pytest.mark.parametrize("who", ["charlie", "eve"])
def test_who_does_not_see_both_sides_finds_nothing(
    client: Client, folders: RecoveryPlan, who: str, request: pytest.FixtureRequest
) -> None:
    client.force_login(request.getfixturevalue(who))
    assert client.get(PAGE).status_code in (403, 404)
    assert client.post(MEND, {"reason": "x"}).status_code in (403, 404)
    assert "JWT_SECRET" not in client.get(PAGE).content.decode()
    assert not RegionMend.objects.exists()


def test_a_viewer_looks_and_changes_nothing(client: Client, dana: Person, folders: RecoveryPlan) -> None:
    looked(folders)
    said = get(client, dana)
    assert "JWT_SECRET" in said and "Compare now and mend" not in said
    assert client.post(MEND, {"reason": "x"}).status_code == 403
    assert Entry.objects.filter(action="access.denied", actor="Dana").exists()
    assert not Operation.objects.exists()


def test_a_form_of_elsewhere_and_a_link_change_nothing(ada: Person, folders: RecoveryPlan) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    assert client.post(MEND, {"reason": "x"}).status_code == 403
    assert client.get(MEND).status_code == 405
    assert not Operation.objects.exists()


def test_what_is_not_there_is_not_found(client: Client, ada: Person, plan: RecoveryPlan) -> None:
    client.force_login(ada)
    assert client.get("/recovery/other/regions").status_code == 404
    assert client.post("/recovery/other/regions/mend", {"reason": "x"}).status_code == 404


# --- the price ------------------------------------------------------------------------------------------


def test_the_price_of_the_page(
    client: Client, ada: Person, folders: RecoveryPlan, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    """Flat: however many services, secrets and comparisons there are."""
    many = {
        **FACTS,
        "images": {"images": FACTS["images"]["images"] * 40},
        "configuration": {**FACTS["configuration"], "secrets": FACTS["configuration"]["secrets"] * 100},
    }
    RegionLook.objects.create(plan=folders, source="production", at=timezone.now(), facts=many)
    for _ in range(60):
        compared(folders, missing=1, examples=[["x" * 500, "missing"]] * 20)
        operation = request_mend(Actor(ada), folders, reason="x")
        transitions.cancel(operation.pk, Actor(ada), reason="x")
    request_mend(Actor(ada), folders, reason="x")
    client.force_login(ada)
    with django_assert_max_num_queries(20):
        answer = client.get(PAGE)
    assert answer.status_code == 200
    assert len(answer.content) < 100_000
