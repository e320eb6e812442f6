"""Uploads of two folders, as in the demo: brought over whole, with their times, and home again."""

import os
from pathlib import Path
from typing import Any

import pytest

from backups.disaster.region_mends import request_mend
from backups.disaster.sides import sides
from backups.disaster.uploads import UPLOADS
from backups.models import RecoveryPlan, UploadsComparison
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.errors import Invalid
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.disaster.paper import plan

__all__ = ["plan"]
pytestmark = pytest.mark.django_db(transaction=True)
SETTINGS: dict[str, Any] = {"kind": "folder", "primary": {"path": "uploads"}, "standby": {"path": "uploads-dr"}}


@pytest.fixture
def folders(plan: RecoveryPlan, data_dir: Path) -> tuple[Path, Path]:
    """Production's and DR's; none of them is there yet."""
    plan.uploads = SETTINGS
    plan.save()
    return data_dir / "uploads", data_dir / "uploads-dr"


def write(folder: Path, name: str, data: bytes, at: int = 1_700_000_000) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (at, at))
    return path


def mend(plan: RecoveryPlan, who: Person) -> Operation:
    plan.refresh_from_db()
    operation = request_mend(Actor(who), plan, reason="x")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def content(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_before_there_are_any(plan: RecoveryPlan, folders: tuple[Path, Path], alice: Person) -> None:
    assert mend(plan, alice).state == State.SUCCEEDED
    assert {one.outcome for one in UPLOADS["folder"].readiness(*sides(plan, plan.uploads, plan.serving))} == {"ready"}


def test_there_and_home(plan: RecoveryPlan, folders: tuple[Path, Path], alice: Person) -> None:
    here, there = folders
    for name in ("a", "b/c.png", "b.d", "\N{SNOWMAN}"):
        write(here, name, name.encode())
    write(there, "a", b"stale", at=1_600_000_000)
    (here / "link").symlink_to("/etc/passwd")
    assert mend(plan, alice).state == State.SUCCEEDED
    assert content(there) == {name: name.encode() for name in ("a", "b/c.png", "b.d", "\N{SNOWMAN}")}
    assert (there / "a").stat().st_mtime == (here / "a").stat().st_mtime
    assert mend(plan, alice).state == State.SUCCEEDED
    assert [row.totals["copied"] for row in UploadsComparison.objects.order_by("pk")] == [4, 0]
    RecoveryPlan.objects.update(active="standby")
    write(there, "made-at-dr", b"2")
    write(there, "a", b"changed at DR", at=1_800_000_000)
    assert mend(plan, alice).state == State.SUCCEEDED
    assert (here / "made-at-dr").read_bytes() == b"2" and (here / "a").read_bytes() == b"changed at DR"


def test_what_is_newer_there_stays(plan: RecoveryPlan, folders: tuple[Path, Path], alice: Person) -> None:
    here, there = folders
    write(here, "a", b"old", at=1_700_000_000)
    write(there, "a", b"newer", at=1_700_000_001)
    assert mend(plan, alice).state == State.SUCCEEDED
    assert content(there) == {"a": b"newer"}


def test_a_folder_of_a_volume_has_to_be_there(plan: RecoveryPlan, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """What is not mounted looks like a folder that is empty, and would be filled beside the volume."""
    plan.uploads = {**SETTINGS, "standby": {"path": str(tmp_path / "volume")}}
    plan.save()
    found = {one.key: one for one in UPLOADS["folder"].readiness(*sides(plan, plan.uploads, plan.serving))}
    assert (found["uploads-there"].outcome, "Is the volume mounted?" in found["uploads-there"].words) == (
        "not ready", True,
    )  # fmt: skip


def test_a_plan_without_uploads(plan: RecoveryPlan, alice: Person) -> None:
    with pytest.raises(Invalid, match="names no uploads"):
        request_mend(Actor(alice), plan, reason="x")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"primary": {"path": ""}}, "primary.path"),
        ({"primary": {"path": "../x"}}, "primary.path"),
        ({"standby": {"path": "uploads/below"}}, "standby.path"),
        ({"standby": {"path": "uploads-dr", "bucket": "x"}}, "standby.bucket"),
        ({"standby": "uploads-dr"}, "standby"),
        ({"mend_minutes": "long"}, "mend_minutes"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], key: str) -> None:
    assert UPLOADS["folder"].check_settings({**SETTINGS, "follow": True}) == {}
    assert key in UPLOADS["folder"].check_settings({**SETTINGS, **change})
