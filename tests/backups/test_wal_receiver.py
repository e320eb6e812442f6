"""The resident receiver: what was committed is in the storage within seconds, whatever dies, and a gap is found."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from django.conf import settings as django_settings

from backups import wal_stream
from backups.jobs import store_of
from backups.models import Backup, BackupAlert, Policy, WalRange, WalStream
from backups.storage.folder import FolderStore
from backups.wal import drop_slot, observe_streams, slot_of, wal_problems
from backups.wal_archive import Archive
from backups.wal_receiver import Receiver
from backups.wal_segments import Segment, lsn, position, stored_file
from backups.wal_stream import hold, spool_of
from backups.window import recoverable
from controlplane.embedded.processes import working_in
from controlplane.operations.errors import LeaseLost, StepError
from tests.backups.clusters import Source, archived, stream_of, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_stream, "BEGINNING_SECONDS", 0.2)
    monkeypatch.setattr(wal_stream, "POLL_SECONDS", 0.2)


def whole_segments(policy: Policy) -> list[str]:
    """The names of the segments that are whole in the storage."""
    files = [stored_file(entry.key, policy.prefix) for entry in store_of(policy).list(policy.prefix + "wal/")]
    return [file.name for file in files if file is not None and file.length is None]


def numbers(names: list[str]) -> list[int]:
    return [Segment.named(name, 16 * 1024 * 1024).number for name in names]


def without_gap(policy: Policy) -> bool:
    found = numbers(whole_segments(policy))
    first = found[0] if found else 0
    return found == list(range(first, first + len(found))) and WalRange.objects.count() == 1


def base(policy: Policy, there: WalRange) -> Backup:
    """A base backup of when the range began."""
    return Backup.objects.create(
        environment=policy.environment, policy=policy, policy_slug=policy.slug, kind=policy.kind,
        storage=policy.storage, key=f"{policy.prefix}base/", as_of=there.since, started_at=there.since,
        finished_at=there.since, seconds=1, size=1, source_bytes=1, timeline=there.timeline,
        wal_end=lsn(there.first * 16 * 1024 * 1024 + 40), manifest={},
    )  # fmt: skip


@contextmanager
def killable(data: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The receiver as a process of its own."""
    environment = {**os.environ, "DATA_DIR": str(data), "DJANGO_SETTINGS_MODULE": "controlplane.settings",
                   "DATABASE_URL": test_database()}  # fmt: skip
    command = [sys.executable, "manage.py", "wal_receiver"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_database() -> str:
    name = str(django_settings.DATABASES["default"]["NAME"])
    return os.environ["DATABASE_URL"].rsplit("/", 1)[0] + "/" + name


test_database.__test__ = False  # type: ignore[attr-defined]


def test_what_is_committed_is_in_the_storage_in_a_moment(source: Source, pitr: Policy) -> None:
    with Receiver():
        until(lambda: WalStream.objects.exclude(seen_at=None).exists())
        moment = source.write("one")
        until(lambda: archived(pitr, moment), 5)
        source.fill(2)
        moment = source.write("two")
        until(lambda: archived(pitr, moment), 5)
        state = observe_streams([pitr])[0]
        assert not state.silent and not state.problem and not state.gaps
    assert len(whole_segments(pitr)) >= 2 and without_gap(pitr)
    # The server keeps what is not in the storage yet, and no more.
    kept = source.ask("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = %s", slot_of(pitr))
    assert position(kept) <= position(stream_of(pitr).archived_lsn)
    assert position(stream_of(pitr).archived_lsn) - position(kept) < 2 * 16 * 1024 * 1024


def test_segments_are_what_the_server_wrote(source: Source, pitr: Policy) -> None:
    with Receiver():
        until(lambda: WalStream.objects.exclude(seen_at=None).exists())
        source.fill(1)
        until(lambda: bool(whole_segments(pitr)))
    name = whole_segments(pitr)[0]
    with store_of(pitr).open(f"{pitr.prefix}wal/00000001/{name}.zst") as file:
        content = zstandard.ZstdDecompressor().stream_reader(file).read()
    assert content == (source.postgres.folder / "pg_wal" / name).read_bytes()


def test_nothing_is_left_of_the_beginnings_of_a_whole_segment(source: Source, pitr: Policy) -> None:
    with Receiver():
        for index in range(3):
            moment = source.write(f"note {index}")
            until(lambda moment=moment: archived(pitr, moment))  # type: ignore[misc]
        source.fill(1)
        moment = source.write("last")
        until(lambda: archived(pitr, moment))
    whole = whole_segments(pitr)
    found = [stored_file(entry.key, pitr.prefix) for entry in store_of(pitr).list(pitr.prefix)]
    beginnings = [file.name for file in found if file is not None and file.length is not None]
    assert len(beginnings) <= 2 and not set(beginnings) & set(whole)


def test_a_killed_receiver_leaves_no_gap(source: Source, pitr: Policy, data_dir: Path) -> None:
    for _ in range(3):
        with killable(data_dir) as process:
            until(lambda: bool(WalStream.objects.filter(receiver__endswith=f":{process.pid}").exclude(seen_at=None)))
            source.fill(2)
            process.send_signal(signal.SIGKILL)
        WalStream.objects.update(lease_until=None)  # the test does not wait for it to run out
    source.fill(1)
    moment = source.write("after")
    with Receiver():
        until(lambda: archived(pitr, moment))
        assert len(working_in(spool_of(pitr).resolve(), "pg_receivewal")) == 1
    assert not working_in(spool_of(pitr).resolve(), "pg_receivewal")
    assert len(whole_segments(pitr)) >= 7 and without_gap(pitr)


def test_a_machine_that_is_gone_with_its_spool_leaves_no_gap(source: Source, pitr: Policy, data_dir: Path) -> None:
    with Receiver():
        moment = source.write("one")
        until(lambda: archived(pitr, moment))
    source.fill(2)
    source.ask("CHECKPOINT")
    for path in spool_of(pitr).iterdir():
        path.unlink()
    with Receiver("another machine"):
        moment = source.write("two")
        until(lambda: archived(pitr, moment))
    assert without_gap(pitr)


def test_killed_between_the_object_and_the_row_it_is_not_written_twice(
    source: Source, pitr: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = threading.Event()
    commit = Archive.commit

    def die(self: Archive, *args: Any, **options: Any) -> None:
        if args[0].size and not died.is_set():
            died.set()
            raise LeaseLost("killed right here")
        commit(self, *args, **options)

    puts: list[str] = []
    put = FolderStore.put

    def counted(self: FolderStore, key: str, chunks: Any, **options: Any) -> Any:
        puts.append(key)
        return put(self, key, chunks, **options)

    monkeypatch.setattr(Archive, "commit", die)
    monkeypatch.setattr(FolderStore, "put", counted)
    with Receiver():
        until(lambda: WalStream.objects.exclude(seen_at=None).exists())
        source.fill(3)
        moment = source.write("after")
        until(lambda: archived(pitr, moment))
    assert died.is_set() and without_gap(pitr)
    whole = [key for key in puts if "partial" not in key]
    assert len(whole) == len(set(whole)) >= 3


def test_a_dropped_slot_loses_nothing_while_the_server_still_has_it(source: Source, pitr: Policy) -> None:
    with Receiver():
        moment = source.write("one")
        until(lambda: archived(pitr, moment))
        source.ask("SELECT pg_drop_replication_slot(%s)", slot_of(pitr))
        moment = source.write("two")
        until(lambda: archived(pitr, moment))
    assert without_gap(pitr)
    assert source.ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", slot_of(pitr)) == 1


def test_a_gap_is_found_and_told_and_the_archive_goes_on(source: Source, pitr: Policy) -> None:
    with Receiver():
        before = source.write("one")
        until(lambda: archived(pitr, before))
    source.drop_slots()
    source.fill(4)
    source.ask("CHECKPOINT")
    source.fill(1)
    source.ask("CHECKPOINT")
    with Receiver():
        after = source.write("two")
        until(lambda: archived(pitr, after))
        first, second = WalRange.objects.order_by("first")
        assert second.first > first.last + 1 or second.since > first.until
        assert first.until >= before and second.until >= after
        assert observe_streams([pitr])[0].gaps == ()  # nothing was lost that a base would need
        base(pitr, first)
        assert observe_streams([pitr])[0].gaps == ((first.until, second.since),)
        assert recoverable(pitr)[0].until == first.until
        words = wal_problems([pitr])[pitr.pk][BackupAlert.Kind.WAL_GAP]
        assert "Make one now" in words


def test_one_stream_has_one_receiver_and_the_loser_writes_nothing(source: Source, pitr: Policy) -> None:
    first = hold(pitr, "first")
    assert first is not None and hold(pitr, "second") is None
    WalStream.objects.update(lease_until=None)
    second = hold(pitr, "second")
    assert second is not None and second.fence > first.fence
    with pytest.raises(LeaseLost):
        first.write(problem="stale")
    assert stream_of(pitr).problem == ""


def test_a_server_that_is_down_is_told_and_taken_up_again(source: Source, pitr: Policy) -> None:
    with Receiver():
        moment = source.write("one")
        until(lambda: archived(pitr, moment))
        source.postgres.stop()
        until(lambda: bool(stream_of(pitr).problem))
        source.postgres.start()
        moment = source.write("two")
        until(lambda: archived(pitr, moment) and not stream_of(pitr).problem)
    assert without_gap(pitr)


def test_a_storage_that_is_away_is_told_and_nothing_is_lost(
    source: Source, pitr: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = FolderStore.put

    def refused(self: FolderStore, key: str, chunks: Any, **options: Any) -> Any:
        raise StepError("The disk is away.")

    with Receiver():
        moment = source.write("one")
        until(lambda: archived(pitr, moment))
        monkeypatch.setattr(FolderStore, "put", refused)
        source.fill(2)
        until(lambda: stream_of(pitr).problem == "The disk is away.")
        monkeypatch.setattr(FolderStore, "put", put)
        moment = source.write("two")
        until(lambda: archived(pitr, moment))
    assert without_gap(pitr)


def test_another_cluster_is_not_mixed_in(source: Source, pitr: Policy) -> None:
    with Receiver():
        moment = source.write("one")
        until(lambda: archived(pitr, moment))
    WalStream.objects.update(system_identifier="7")
    with Receiver():
        until(lambda: "another cluster" in stream_of(pitr).problem)


def test_a_paused_policy_is_let_go_and_its_slot_can_be_dropped(source: Source, pitr: Policy) -> None:
    with Receiver():
        moment = source.write("one")
        until(lambda: archived(pitr, moment))
        Policy.objects.update(paused=True)
        until(lambda: stream_of(pitr).lease_until is None)
        assert drop_slot(pitr)
        assert not drop_slot(pitr)
    assert source.ask("SELECT count(*) FROM pg_replication_slots") == 0


def test_sigterm_puts_what_arrived_into_the_storage(source: Source, pitr: Policy, data_dir: Path) -> None:
    with killable(data_dir) as process:
        until(lambda: WalStream.objects.exclude(seen_at=None).exists())
        moment = source.write("one")
        until(lambda: position(stream_of(pitr).server_lsn) > 0 and archived(pitr, moment), 10)
        process.terminate()
        assert process.wait(40) == 0
    assert stream_of(pitr).lease_until is None
    assert not working_in(spool_of(pitr).resolve(), "pg_receivewal")
