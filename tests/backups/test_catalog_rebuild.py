"""`manage.py catalog --rebuild`: the catalog, read back from the storage alone."""

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from backups.manifest import NAME
from backups.models import Backup, Kind, Policy, Storage
from backups.storage import open_store
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from tests.backups.company import Make, back_up
from tests.backups.history import unsaved

pytestmark = pytest.mark.django_db(transaction=True)
# What only the database knew: its own numbers, and what people and tests said since.
OWN = {"id", "parent_id", "search", "expires_at", "kept_because"}


def rows() -> list[dict[str, Any]]:
    """What the catalog says, without its own numbers, but with the keys of parents."""
    return [
        {name: value for name, value in one.items() if name not in OWN}
        for one in Backup.objects.order_by("key").values(*[f.attname for f in Backup._meta.concrete_fields],
                                                         "parent__key")
    ]  # fmt: skip


def rebuild(*options: str) -> str:
    errors = StringIO()
    try:
        call_command("catalog", "--rebuild", *options, stderr=errors)
    except CommandError as error:
        return f"{errors.getvalue()}{error}"
    return errors.getvalue()


def manifest_in(policy: Policy, **values: Any) -> dict[str, Any]:
    """A manifest that stands in the storage, of no real backup."""
    backup = unsaved(policy, age=values.pop("age", timedelta()))
    at = backup.as_of.isoformat()
    manifest = {
        "format": "controlplane backup 1", "environment": "production", "policy": policy.slug, "kind": policy.kind,
        "level": "full", "parent": "", "key": backup.key, "operation": 1, "as_of": at, "started_at": at,
        "finished_at": at, "seconds": 1.5, "source_bytes": 10, "key_id": "", "facts": {},
        "objects": [{"name": "main", "key": f"{backup.key}main", "size": 4, "sha256": "a" * 64, "version": ""}],
        **values,
    }  # fmt: skip
    open_store(policy.storage).put(backup.key + NAME, [json.dumps(manifest).encode()])
    return manifest


@pytest.fixture
def uploads(make_policy: Make, tmp_path: Path) -> Policy:
    """A policy of a folder with one file."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "avatar.png").write_bytes(b"picture")
    return make_policy("uploads", kind=Kind.UPLOADS, settings={"source": {"folder": str(tmp_path / "files")}})


def test_the_same_rows_again_and_twice_is_nothing(
    policy: Policy, uploads: Policy, alice: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in (policy, uploads, policy, uploads):
        back_up(alice, one)
    before = rows()
    assert len(before) == 4
    Backup.objects.update(parent=None)
    Backup.objects.all().delete()
    assert rebuild() == ""
    assert "archive: 4 entered, 0 known already" in capsys.readouterr().out
    assert rows() == before
    found = Entry.objects.filter(action="backup.found")
    assert found.count() == 4 and found[0].actor == "system: manage.py catalog"
    seen = list(Backup.objects.order_by("pk").values())
    assert rebuild() == ""
    assert "archive: 0 entered, 4 known already" in capsys.readouterr().out
    assert list(Backup.objects.order_by("pk").values()) == seen and found.count() == 4


def test_what_people_and_tests_said_of_known_ones_stays(policy: Policy, alice: Person) -> None:
    back_up(alice, policy)
    Backup.objects.update(hold_reason="the audit", verdict="proven", state=Backup.State.DELETED)
    before = list(Backup.objects.values())
    assert rebuild() == "" and list(Backup.objects.values()) == before


def test_parents_before_what_builds_on_them(make_policy: Make) -> None:
    policy = make_policy("cluster", kind=Kind.PITR)
    parent = ""
    for day in (3, 2, 1):
        parent = manifest_in(policy, age=timedelta(days=day), parent=parent, level="incremental" if parent else "full")[
            "key"
        ]
    assert rebuild() == ""
    tip = Backup.objects.get(key=parent)
    assert tip.parent and tip.parent.parent and tip.parent.parent.parent is None
    assert Backup.objects.count() == 3


def test_one_whose_parent_is_gone_is_named_and_left_out(make_policy: Make) -> None:
    policy = make_policy("cluster", kind=Kind.PITR)
    key = manifest_in(policy, parent="production/cluster/gone/", level="incremental")["key"]
    said = rebuild()
    assert f"{key}: {key} builds on production/cluster/gone/, which is not there." in said
    assert not Backup.objects.exists()


Harm = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "harm",
    [
        lambda one: "{",
        lambda one: [],
        lambda one: {**one, "format": "something else"},
        lambda one: {**one, "key": "production/other/"},
        lambda one: {name: value for name, value in one.items() if name != "objects"},
        lambda one: {**one, "objects": [{}]},
        lambda one: {**one, "objects": [7]},
        lambda one: {**one, "facts": []},
        lambda one: {**one, "facts": {"images": [7]}},
        lambda one: {**one, "as_of": "yesterday"},
        lambda one: {**one, "as_of": "2026-13-45T00:00:00+00:00"},
        lambda one: {**one, "seconds": "long"},
        lambda one: {**one, "source_bytes": 2**80},
        lambda one: {**one, "kind": "x" * 21},
        lambda one: {**one, "policy": None},
        lambda one: {**one, "facts": {"timeline": -1}},
    ],
)
def test_a_damaged_manifest_is_named_and_left_out(
    policy: Policy, data_dir: Path, harm: Harm, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = manifest_in(policy), manifest_in(policy)
    harmed = harm(bad)
    path = data_dir / "backups" / bad["key"] / NAME
    path.write_text(harmed if isinstance(harmed, str) else json.dumps(harmed))
    said = rebuild()
    assert f"archive: {bad['key']}" in said
    assert "what is named above was left out" in said
    assert "archive: 1 entered" in capsys.readouterr().out
    assert Backup.objects.get().key == good["key"]


def test_an_environment_that_is_not_declared_is_said(policy: Policy) -> None:
    manifest_in(policy, environment="nowhere")
    assert "there is no environment nowhere; declare it, then again." in rebuild()


def test_a_policy_that_is_gone_leaves_backups_of_no_policy(policy: Policy, alice: Person) -> None:
    back_up(alice, policy)
    Backup.objects.all().delete()
    policy.delete()
    assert rebuild() == ""
    backup = Backup.objects.get()
    assert (backup.policy, backup.policy_slug, backup.environment.slug) == (None, "configuration", "production")


def test_half_a_backup_is_none(policy: Policy, data_dir: Path) -> None:
    open_store(policy.storage).put(f"{policy.prefix}2026-11-24T020000Z-1-1/main", [b"data"])
    assert rebuild() == "" and not Backup.objects.exists()


def test_only_one_storage(policy: Policy, capsys: pytest.CaptureFixture[str]) -> None:
    manifest_in(policy)
    Storage.objects.create(slug="other", kind="folder", settings={"path": "other"})
    assert rebuild("--storage", "other") == ""
    assert "other: 0 entered" in capsys.readouterr().out and not Backup.objects.exists()
    assert "There is no such storage" in rebuild("--storage", "nothing")


def test_without_the_option_it_only_counts(policy: Policy, capsys: pytest.CaptureFixture[str]) -> None:
    manifest_in(policy)
    call_command("catalog")
    assert capsys.readouterr().out == "" and not Backup.objects.exists()
    rebuild()
    capsys.readouterr()
    call_command("catalog")
    assert capsys.readouterr().out == "archive: 1 available\n"
