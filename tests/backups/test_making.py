"""A backup becomes an entry of the catalog when, and only when, it is whole."""

import json
from pathlib import Path

import pytest

from backups.engines.configuration import ConfigurationEngine
from backups.manifest import NAME
from backups.models import Backup, Policy
from backups.storage.folder import FolderStore
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import boundaries, engine
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.backups.company import back_up, only_backup
from tests.backups.crashes import Crash

pytestmark = pytest.mark.django_db(transaction=True)


def files(data_dir: Path) -> list[str]:
    """What is in the storage, hidden remains too."""
    folder = data_dir / "backups"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_it_is_entered_with_all_that_its_manifest_says(policy: Policy, alice: Person, data_dir: Path) -> None:
    operation = back_up(alice, policy)
    assert operation.state == State.SUCCEEDED, operation.outcome
    backup = only_backup()
    assert backup.operation_id == operation.pk and backup.policy == policy and backup.verdict == ""
    manifest = json.loads((data_dir / "backups" / backup.key / NAME).read_text())
    assert manifest == backup.manifest and manifest["facts"]["variables"] == 2
    assert backup.size == sum(one["size"] for one in manifest["objects"]) > 0
    assert operation.backup_runs.get().backup == backup


def test_a_failing_engine_leaves_nothing(
    policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = ConfigurationEngine.take

    def half(self: ConfigurationEngine, job, hand):  # type: ignore[no-untyped-def]
        take(self, job, hand)
        raise StepError("the disk of the source is broken", permanent=True)

    monkeypatch.setattr(ConfigurationEngine, "take", half)
    operation = back_up(alice, policy)
    assert operation.state == State.FAILED and "the disk of the source is broken" in operation.outcome
    assert files(data_dir) == [] and not Backup.objects.exists()


def test_a_mistake_of_ours_fails_it_and_asks_nobody(
    policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ConfigurationEngine, job, hand):  # type: ignore[no-untyped-def]
        raise KeyError("oops")

    monkeypatch.setattr(ConfigurationEngine, "take", broken)
    operation = back_up(alice, policy)
    assert operation.state == State.FAILED and "KeyError" in operation.outcome


@pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
@pytest.mark.parametrize("step", ["configuration-look", "configuration-take"])
def test_a_worker_that_dies_anywhere(policy: Policy, alice: Person, data_dir: Path, boundary: str, step: str) -> None:
    """The next one goes on: one entry, one manifest, nothing else in the storage."""

    def die(at: str, operation_id: int, key: str) -> None:
        if (at, key) == (boundary, step):
            raise Crash

    boundaries.listeners.append(die)
    try:
        with pytest.raises(Crash):
            back_up(alice, policy)
    finally:
        boundaries.listeners.clear()
    operation = Operation.objects.get()
    Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
    assert engine.run(operation.pk, "w2")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED, operation.outcome
    backup = only_backup()
    assert {name.rpartition("/")[0] + "/" for name in files(data_dir)} == {backup.key}


def test_a_worker_that_dies_between_manifest_and_checkpoint(
    policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = FolderStore.put

    def put_and_die(self, key, chunks, **values):  # type: ignore[no-untyped-def]
        stored = put(self, key, chunks, **values)
        if key.endswith(NAME):
            raise Crash
        return stored

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "put", put_and_die)
        with pytest.raises(Crash):
            back_up(alice, policy)
    operation = Operation.objects.get()
    before = files(data_dir)
    Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
    assert engine.run(operation.pk, "w2")
    assert files(data_dir) == before, "the manifest that stood there was taken for what it is"
    assert only_backup().key == before[0].rpartition("/")[0] + "/"


def test_no_secret_value_gets_anywhere(policy: Policy, alice: Person, data_dir: Path) -> None:
    secret = data_dir / "secrets" / "production" / "jwt-secret"
    secret.parent.mkdir(parents=True)
    secret.write_text("the-very-secret-value")
    operation = back_up(alice, policy)
    stored = b"".join((data_dir / "backups" / name).read_bytes() for name in files(data_dir))
    assert b"the-very-secret-value" not in stored and b"file:production/jwt-secret" in stored
    assert not operation.events.filter(text__contains="the-very-secret-value").exists()
    assert "the-very-secret-value" not in str(list(Entry.objects.values()))


def test_a_truncated_object_is_noticed_at_once(
    policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = FolderStore.put

    def put_and_cut(self, key, chunks, **values):  # type: ignore[no-untyped-def]
        stored = put(self, key, chunks, **values)
        if not key.endswith(NAME):
            path = data_dir / "backups" / key
            path.write_bytes(path.read_bytes()[:-1])
        return stored

    monkeypatch.setattr(FolderStore, "put", put_and_cut)
    operation = back_up(alice, policy)
    assert operation.state == State.FAILED and "where" in operation.outcome and "bytes were put" in operation.outcome
    assert not Backup.objects.exists() and files(data_dir) == []
