"""Deleting by the rules: asked once more right before, struck out before its objects go, never what is needed."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from backups.cleaning import propose
from backups.manifest import NAME
from backups.models import Backup, Kind, Policy, Restore, WalRange
from backups.services import hold, request_cleanup, request_proof
from backups.storage import open_store
from backups.storage.folder import FolderStore
from backups.wal_segments import key_of
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations import engine
from controlplane.operations.claims import claim
from controlplane.operations.errors import StepError
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import State
from tests.backups.company import Make, back_up
from tests.backups.crashes import Crash, dying
from tests.backups.history import base, entry, proven, wal
from tests.backups.test_making import files

pytestmark = pytest.mark.django_db(transaction=True)
OLD = timedelta(days=40)


def stored(
    policy: Policy, *, age: timedelta = timedelta(), make: Callable[..., Backup] = entry, **values: Any
) -> Backup:
    """An entry with objects in the storage."""
    backup = make(policy, age=age, **values)
    for name in ("main", NAME):
        open_store(policy.storage).put(backup.key + name, [b"x"])
    return backup


def ask(person: Person, policy: Policy) -> Operation:
    return request_cleanup(Actor(person), policy, propose(policy), reason="because")


def carry_out(operation: Operation, worker: str = "w1") -> Operation:
    engine.run(operation.pk, worker)
    operation.refresh_from_db()
    return operation


def clean(person: Person, policy: Policy) -> Operation:
    return carry_out(ask(person, policy))


def folders(data_dir: Path) -> set[str]:
    """Where there is something in the storage."""
    return {name.rpartition("/")[0] + "/" for name in files(data_dir)}


def said(operation: Operation) -> str:
    return "\n".join(Event.objects.filter(operation=operation).order_by("seq").values_list("text", flat=True))


def state_of(backup: Backup) -> str:
    backup.refresh_from_db()
    return backup.state


class TestDeleting:
    def test_row_first_objects_after_and_it_is_audited(self, policy: Policy, alice: Person, data_dir: Path) -> None:
        old, new = stored(policy, age=OLD), stored(policy)
        operation = clean(alice, policy)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert (state_of(old), state_of(new)) == ("deleted", "available")
        assert old.deleted_at is not None and folders(data_dir) == {new.key}
        audited = Entry.objects.get(action="backup.deleted")
        assert (audited.target, audited.scopes, audited.data["key"]) == (
            f"backup {old.pk}", ["production"], old.key,
        )  # fmt: skip
        assert f"operation {operation.pk}" in audited.reason

    def test_the_row_is_struck_out_before_the_object_goes(
        self, policy: Policy, alice: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, _ = stored(policy, age=OLD), stored(policy)
        seen = []
        delete = FolderStore.delete

        def look(self: FolderStore, keys: Any) -> int:
            seen.append(state_of(old))
            return delete(self, keys)

        monkeypatch.setattr(FolderStore, "delete", look)
        clean(alice, policy)
        assert seen and set(seen) == {"deleted"}

    def test_who_is_held_meanwhile_stays(self, policy: Policy, alice: Person, data_dir: Path) -> None:
        old, other, _ = stored(policy, age=OLD), stored(policy, age=OLD), stored(policy)
        operation = ask(alice, policy)
        hold(Actor(alice), old, "the audit of 2026")
        assert carry_out(operation).state == State.SUCCEEDED
        assert (state_of(old), state_of(other)) == ("available", "deleted")
        assert old.key in folders(data_dir)
        assert f"backup {old.pk} stays: held: the audit of 2026" in said(operation)

    def test_held_in_the_very_last_moment(
        self, policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, _ = stored(policy, age=OLD), stored(policy)

        def held_meanwhile(self: FolderStore, key: str) -> datetime | None:
            hold(Actor(alice), old, "the audit of 2026")
            return None

        monkeypatch.setattr(FolderStore, "locked_until", held_meanwhile)
        operation = ask(alice, policy)
        with monkeypatch.context():
            carry_out(operation)
        assert state_of(old) == "available" and old.key in folders(data_dir)

    def test_who_is_restored_meanwhile_stays(self, policy: Policy, alice: Person) -> None:
        old, _ = stored(policy, age=OLD), stored(policy)
        operation = ask(alice, policy)
        request_proof(Actor(alice), old, reason="to know")
        carry_out(operation)
        assert state_of(old) == "available" and "it is being restored" in said(operation)

    def test_who_has_children_meanwhile_stays(self, policy: Policy, alice: Person) -> None:
        old, _ = stored(policy, age=OLD), stored(policy)
        operation = ask(alice, policy)
        stored(policy, parent=old, level="incremental")
        carry_out(operation)
        assert state_of(old) == "available" and "another one builds on it" in said(operation)

    def test_a_chain_goes_from_its_end(self, policy: Policy, alice: Person, data_dir: Path) -> None:
        first = stored(policy, age=OLD + timedelta(days=1))
        second = stored(policy, age=OLD, parent=first, level="incremental")
        new = stored(policy, make=proven)
        assert clean(alice, policy).state == State.SUCCEEDED
        assert (state_of(first), state_of(second)) == ("deleted", "deleted")
        order = list(Entry.objects.filter(action="backup.deleted").order_by("pk").values_list("target", flat=True))
        assert order == [f"backup {second.pk}", f"backup {first.pk}"] and folders(data_dir) == {new.key}

    def test_the_last_proven_one_failed_meanwhile_so_the_one_before_stays(self, policy: Policy, alice: Person) -> None:
        before = stored(policy, age=OLD, make=proven)
        last = stored(policy, age=timedelta(days=1), make=proven)
        operation = ask(alice, policy)
        assert operation.cleanup.backups == [before.pk]
        Backup.objects.filter(pk=last.pk).update(verdict=Backup.Verdict.FAILED)
        carry_out(operation)
        assert state_of(before) == "available" and "the last one proven by a restore" in said(operation)

    def test_what_the_storage_locks_stays(
        self, policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, other, _ = stored(policy, age=OLD), stored(policy, age=OLD), stored(policy)
        until = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
        monkeypatch.setattr(FolderStore, "locked_until", lambda self, key: until if key.startswith(old.key) else None)
        operation = clean(alice, policy)
        assert operation.state == State.SUCCEEDED
        assert (state_of(old), state_of(other)) == ("available", "deleted") and old.key in folders(data_dir)
        assert "does not let anybody delete it before 2030-01-02 03:04 UTC" in said(operation)

    @pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
    @pytest.mark.parametrize("step", ["batch-1", "sweep"])
    def test_a_worker_that_dies_anywhere(
        self, policy: Policy, alice: Person, data_dir: Path, boundary: str, step: str
    ) -> None:
        old, new = stored(policy, age=OLD), stored(policy)
        operation = ask(alice, policy)
        with dying(boundary, step), pytest.raises(Crash):
            carry_out(operation)
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        assert carry_out(operation, "w2").state == State.SUCCEEDED
        assert state_of(old) == "deleted" and folders(data_dir) == {new.key}
        assert Entry.objects.filter(action="backup.deleted").count() == 1

    def test_a_worker_that_dies_between_row_and_object(
        self, policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = stored(policy, age=OLD), stored(policy)
        operation = ask(alice, policy)

        def die(self: FolderStore, keys: Any) -> int:
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(FolderStore, "delete", die)
            with pytest.raises(Crash):
                carry_out(operation)
        assert state_of(old) == "deleted" and old.key in folders(data_dir)
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        assert carry_out(operation, "w2").state == State.SUCCEEDED
        assert folders(data_dir) == {new.key} and Entry.objects.filter(action="backup.deleted").count() == 1

    def test_what_could_not_be_removed_goes_with_the_next_clean_up(
        self, policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = stored(policy, age=OLD), stored(policy)

        def refuse(self: FolderStore, keys: Any) -> int:
            raise StepError("The storage refuses.", permanent=True)

        with monkeypatch.context() as patch:
            patch.setattr(FolderStore, "delete", refuse)
            operation = clean(alice, policy)
            assert operation.state == State.FAILED and "The storage refuses." in operation.outcome
        assert state_of(old) == "deleted" and old.key in folders(data_dir)
        assert clean(alice, policy).state == State.SUCCEEDED
        assert folders(data_dir) == {new.key}


class TestSweeping:
    @pytest.fixture
    def uploads(self, make_policy: Make, tmp_path: Path) -> Policy:
        """A policy of a folder with one file."""
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "a").write_text("first")
        return make_policy("uploads", kind=Kind.UPLOADS, settings={"source": {"folder": str(tmp_path / "source")}})

    def test_the_remains_of_a_try(self, policy: Policy, alice: Person, data_dir: Path) -> None:
        store, day = open_store(policy.storage), 24 * 3600
        busy = request_proof(Actor(alice), entry(policy), reason="stands for one at work")
        assert claim(busy.pk, "another worker")
        kept = {f"{policy.prefix}2026-11-24T020000Z-7-1/": 0.9, f"{policy.prefix}2026-11-24T020000Z-{busy.pk}-1/": 9}
        gone = {f"{policy.prefix}2026-11-24T020000Z-999-1/": 1.1}
        for key, days in {**kept, **gone}.items():
            store.put(f"{key}main", [b"x"])
            then = time.time() - days * day
            os.utime(data_dir / "backups" / key / "main", (then, then))
        operation = clean(alice, policy)
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert folders(data_dir) == set(kept) and f"removed what was left at {next(iter(gone))}" in said(operation)

    def test_remains_that_are_locked_stay_and_fail_nothing(
        self, policy: Policy, alice: Person, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored(policy, state=Backup.State.DELETED)

        def locked(self: FolderStore, keys: Any) -> int:
            raise StepError("main is locked until 2030.", permanent=True)

        monkeypatch.setattr(FolderStore, "delete", locked)
        operation = clean(alice, policy)
        assert operation.state == State.SUCCEEDED and "stays: main is locked until 2030." in said(operation)

    def test_what_only_deleted_ones_shared_goes_and_nothing_else(
        self, uploads: Policy, alice: Person, data_dir: Path, tmp_path: Path
    ) -> None:
        back_up(alice, uploads)
        (tmp_path / "source" / "a").write_text("second")
        (tmp_path / "source" / "b").write_text("both")
        back_up(alice, uploads)
        (tmp_path / "source" / "a").write_text("third")
        back_up(alice, uploads)
        first, second, third = Backup.objects.order_by("pk")
        Backup.objects.filter(pk=third.pk).update(verdict=Backup.Verdict.PROVEN)
        Backup.objects.exclude(pk=third.pk).update(as_of=timezone.now() - OLD, parent=None)
        operation = clean(alice, uploads)
        assert operation.state == State.SUCCEEDED and "removed 2 objects" in said(operation)
        assert (state_of(first), state_of(second), state_of(third)) == ("deleted", "deleted", "available")
        assert carry_out(request_proof(Actor(alice), third, reason="to know")).state == State.SUCCEEDED
        contents = [path for path in (data_dir / "backups/production/uploads/files").rglob("*") if path.is_file()]
        assert len(contents) == 2

    def test_what_the_catalog_does_not_know_keeps_what_it_needs(
        self, uploads: Policy, alice: Person, data_dir: Path, tmp_path: Path
    ) -> None:
        back_up(alice, uploads)
        lost = Backup.objects.get()
        (tmp_path / "source" / "a").write_text("second")
        back_up(alice, uploads)
        before = files(data_dir)
        Backup.objects.update(parent=None)
        lost.delete()
        operation = clean(alice, uploads)
        assert operation.state == State.SUCCEEDED and files(data_dir) == before
        assert f"the catalog does not know {lost.key}" in said(operation)
        assert "manage.py catalog --rebuild" in said(operation)


class TestTheLog:
    def put(self, policy: Policy, *numbers: int) -> None:
        for number in numbers:
            name = f"00000001{number // 256:08X}{number % 256:08X}"
            open_store(policy.storage).put(key_of(policy.prefix, name, ""), [b"x"])

    def numbers(self, data_dir: Path) -> list[int]:
        names = [Path(name).name for name in files(data_dir) if "/wal/" in name]
        return sorted(int(name[8:16], 16) * 256 + int(name[16:24], 16) for name in names)

    @pytest.fixture
    def cluster_policy(self, make_policy: Make) -> Policy:
        """With WAL of 10 to 40, and a base that begins in 30."""
        policy = make_policy("cluster", kind=Kind.PITR)
        now = timezone.now()
        stored(policy, make=base, age=timedelta(days=1), segment=30)
        wal(policy, (10, 14, now - OLD, now - OLD), (20, 40, now - OLD, now))
        self.put(policy, 10, 14, 20, 29, 30, 31, 40)
        return policy

    def test_it_reaches_back_to_the_oldest_kept_base(
        self, cluster_policy: Policy, alice: Person, data_dir: Path
    ) -> None:
        assert clean(alice, cluster_policy).state == State.SUCCEEDED
        assert self.numbers(data_dir) == [30, 31, 40]
        assert list(WalRange.objects.values_list("first", "last")) == [(30, 40)]

    def test_a_base_that_is_held_keeps_all_that_follows(
        self, cluster_policy: Policy, alice: Person, data_dir: Path
    ) -> None:
        stored(cluster_policy, make=base, age=OLD, segment=20, hold_reason="the audit")
        clean(alice, cluster_policy)
        assert self.numbers(data_dir) == [20, 29, 30, 31, 40]

    def test_without_a_base_all_is_kept(self, cluster_policy: Policy, alice: Person, data_dir: Path) -> None:
        Backup.objects.update(state=Backup.State.DELETED)
        clean(alice, cluster_policy)
        assert self.numbers(data_dir) == [10, 14, 20, 29, 30, 31, 40]

    def test_a_base_that_only_the_storage_knows_keeps_its_log(
        self, cluster_policy: Policy, alice: Person, data_dir: Path
    ) -> None:
        stored(cluster_policy, make=base, age=OLD, segment=20).delete()
        clean(alice, cluster_policy)
        assert self.numbers(data_dir) == [10, 14, 20, 29, 30, 31, 40]


def test_nothing_of_a_restore_is_left_over(policy: Policy, alice: Person) -> None:
    """What was restored may be deleted like any other, once the restore is over."""
    old, _ = stored(policy, age=OLD), stored(policy)
    Restore.objects.create(operation=ask(alice, policy), backup=old, target=Restore.Target.TEST)
    Operation.objects.update(state=State.SUCCEEDED, finished_at=timezone.now())
    clean(alice, policy)
    assert state_of(old) == "deleted"
