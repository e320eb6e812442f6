"""The clock looks at both regions: each part by itself, no part hides another, and no secret is kept."""

import json
import threading
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now

from backups.disaster import regions
from backups.disaster.region_mends import REGION_MEND
from backups.disaster.regions import compare, look, look_due
from backups.models import RecoveryKit, RecoveryPlan, RegionLook, Storage, UploadsComparison
from backups.storage import open_store
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from environments.models import ConfigEntry
from tests.backups.wire import DENIED
from tests.disaster.paper import Database, plan, world
from tests.disaster.two_buckets import Buckets, buckets

pytest_plugins = ["tests.backups.stores"]
__all__ = ["buckets", "plan"]
pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "correct-horse-battery-staple"


def entry(plan: RecoveryPlan, side: str, key: str, **values: str) -> None:
    ConfigEntry.objects.create(environment=getattr(plan, side), key=key, **values)


def test_every_plan_gets_a_look_and_only_when_it_is_due(plan: RecoveryPlan) -> None:
    assert look_due() == 1
    first = RegionLook.objects.get()
    assert first.at is not None and first.source == "production"
    assert look_due() == 0
    RegionLook.objects.update(due_at=Now(), at=None)
    assert look_due() == 1


def test_two_clocks_share_the_work(plan: RecoveryPlan) -> None:
    """What one has claimed, the other leaves alone."""
    look_due()
    RegionLook.objects.update(due_at=Now())
    found: list[int] = []

    def other() -> None:
        found.append(look_due())
        connections.close_all()

    with transaction.atomic():
        list(RegionLook.objects.select_for_update())
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == [0]


def test_the_database_as_its_driver_tells(plan: RecoveryPlan) -> None:
    facts = look(plan).facts["database"]
    assert [one["title"] for one in facts["candidates"]] == ["the replica", "the snapshot"]
    assert facts["checks"][0]["outcome"] == "ready"
    world.newest.pop("replica")
    world.away.add("production")
    facts = look(plan).facts["database"]
    assert facts["words"] == "not known: production cannot be reached"
    assert facts["candidates"] == []


def test_a_part_that_breaks_hides_no_other(plan: RecoveryPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Database, source: Any, target: Any) -> list[Any]:
        raise RuntimeError("a password, perhaps")

    monkeypatch.setattr(Database, "candidates", broken)
    facts = look(plan).facts
    assert facts["database"] == {"words": "not known: it could not be asked (RuntimeError)"}
    assert facts["kit"]["words"] == "the plan names no storage for a kit"


def test_secrets_by_name_and_whether_they_can_be_read(plan: RecoveryPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", SECRET)
    entry(plan, "primary", "JWT_SECRET", secret="env:HERE")
    entry(plan, "standby", "JWT_SECRET", secret="env:HERE")
    entry(plan, "primary", "DB_PASSWORD", secret="env:HERE")
    entry(plan, "standby", "DB_PASSWORD", secret="env:NOT_THERE_AT_ALL")
    entry(plan, "primary", "SESSION_SECRET", secret="env:HERE")
    kept = look(plan).facts
    found = {one["name"]: (one["source"]["outcome"], one["target"]["outcome"], one["target"]["words"])
             for one in kept["configuration"]["secrets"]}  # fmt: skip
    assert found == {
        "JWT_SECRET": ("ready", "ready", "can be read"),
        "DB_PASSWORD": ("ready", "not ready", "cannot be read"),
        "SESSION_SECRET": ("ready", "not ready", "is not configured"),
    }
    whole = json.dumps(kept)
    assert SECRET not in whole and "NOT_THERE_AT_ALL" not in whole, "neither the value nor where it is"


def test_a_secret_nobody_could_be_asked_for_is_not_called_missing(
    plan: RecoveryPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(reference: str) -> str:
        raise StepError("AWS cannot be reached")

    monkeypatch.setattr(regions, "resolve", away)
    entry(plan, "standby", "JWT_SECRET", secret="aws:jwt")
    (found,) = look(plan).facts["configuration"]["secrets"]
    assert found["target"] == {"outcome": "unknown", "words": "could not be asked now"}


def test_other_variables_by_name_only(plan: RecoveryPlan) -> None:
    plan.configuration = {"DATABASE_URL": "postgresql://dr"}
    plan.save()
    for side, word in (("primary", "one"), ("standby", "two")):
        entry(plan, side, "SAME", value="same")
        entry(plan, side, "DIFFERENT", value=f"value-{word}")
        entry(plan, side, "DATABASE_URL", value=f"value-{word}")
        entry(plan, side, f"ONLY_{side.upper()}", value="value-x")
    kept = look(plan).facts["configuration"]
    assert kept["same"] == 1
    assert kept["different"] == ["DIFFERENT"]
    assert (kept["only_source"], kept["only_target"]) == (["ONLY_PRIMARY"], ["ONLY_STANDBY"])
    assert kept["swapped"] == ["DATABASE_URL"]
    assert "value-" not in json.dumps(kept)


def test_after_a_failover_it_is_the_other_way_round(plan: RecoveryPlan) -> None:
    entry(plan, "standby", "MADE_AT_DR", value="x")
    RecoveryPlan.objects.update(active="standby")
    plan.refresh_from_db()
    found = look(plan)
    assert (found.source, found.facts["configuration"]["only_source"]) == ("dr", ["MADE_AT_DR"])


def test_the_kit_is_where_it_was_put_or_is_not(plan: RecoveryPlan, tmp_path: Any) -> None:
    (tmp_path / "kits").mkdir()
    plan.kit_storage = Storage.objects.create(slug="west", kind="folder", settings={"path": str(tmp_path / "kits")})
    plan.save()
    assert look(plan).facts["kit"]["words"] == "none was made yet; it goes to west"
    open_store(plan.kit_storage).put("kits/main.tar", [b"kit"])
    RecoveryKit.objects.create(plan=plan, key="kits/main.tar", digest="d", content_digest="c")
    assert look(plan).facts["kit"]["outcome"] == "ready"
    open_store(plan.kit_storage).delete(["kits/main.tar"])
    assert "is not in west any more" in look(plan).facts["kit"]["words"]


def test_images_where_nobody_knows(plan: RecoveryPlan) -> None:
    (found,) = look(plan).facts["images"]["images"]
    assert (found["service"], found["version"], found["target"]["outcome"]) == ("api", "1.4.0", "unknown")
    assert found["target"]["words"] == "not known: the driver sites says nothing of images"


# --- comparing by the clock -----------------------------------------------------------------------------


def test_the_clock_compares_once_an_hour_and_changes_nothing(buckets: Buckets) -> None:
    buckets.put("a", b"1")
    look_due()
    row = UploadsComparison.objects.get()
    assert (row.whole, row.totals["missing"], row.operation) == (True, 1, None)
    assert buckets.content() == {}
    assert compare(buckets.plan) and UploadsComparison.objects.count() == 1
    UploadsComparison.objects.update(finished_at="2020-01-01T00:00:00Z")
    assert compare(buckets.plan) and UploadsComparison.objects.count() == 2


def test_never_where_the_plan_says_so(buckets: Buckets) -> None:
    buckets.change(compare_every_minutes=0)
    assert compare(buckets.plan)
    assert not UploadsComparison.objects.exists()


def test_it_takes_turns_and_the_next_clock_goes_on(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        buckets.put(f"{number:02}", b"1")
    monkeypatch.setattr(regions, "TURN_SECONDS", 0.0)
    turns = 0
    while not compare(buckets.plan):
        turns += 1
        assert not UploadsComparison.objects.get().whole
    assert turns == 40
    assert UploadsComparison.objects.get().totals["missing"] == 40


def test_while_it_takes_turns_the_rest_is_asked_as_seldom_as_ever(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        buckets.put(f"{number:02}", b"1")
    monkeypatch.setattr(regions, "TURN_SECONDS", 0.0)
    looks: list[RecoveryPlan] = []

    def counted(plan: RecoveryPlan) -> RegionLook:
        looks.append(plan)
        return look(plan)

    monkeypatch.setattr(regions, "look", counted)
    while look_due():
        pass
    assert looks == [buckets.plan]
    assert UploadsComparison.objects.get().whole


def test_a_side_that_cannot_be_read_is_asked_again_later(buckets: Buckets) -> None:
    buckets.put("a", b"1")
    buckets.ours.proxy.will("ListObjects", DENIED)
    assert compare(buckets.plan)
    assert not UploadsComparison.objects.filter(whole=True).exists()
    assert compare(buckets.plan)
    assert UploadsComparison.objects.get().totals["missing"] == 1


def test_where_nothing_else_replicates_the_clock_asks_for_it(buckets: Buckets) -> None:
    buckets.change(follow=True)
    buckets.put("a", b"1")
    compare(buckets.plan)
    operation = Operation.objects.get()
    assert (operation.kind, operation.requested_by_name, operation.lock_names) == (
        REGION_MEND, "system: clock", ["uploads/main"],
    )  # fmt: skip
    UploadsComparison.objects.update(finished_at="2020-01-01T00:00:00Z")
    compare(buckets.plan)
    assert Operation.objects.count() == 1, "one at a time"
