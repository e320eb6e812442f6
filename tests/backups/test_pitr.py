"""To any moment and back: base backups, whole and incremental, the WAL after them, and exactly what was there then."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from backups import wal_stream
from backups.catalog import enter
from backups.engines.pitr import PitrEngine
from backups.jobs import job_of, sealer_of, store_of
from backups.manifest import NAME, encoded, manifest_of
from backups.models import Policy, WalRange
from backups.programs import Server
from backups.recovery import restore_to
from backups.scratch import Scratch
from backups.sealing import new_identity
from backups.source_cluster import cluster_at
from backups.storage.folder import FolderStore
from backups.wal_receiver import Receiver
from backups.window import recoverable
from controlplane.embedded.processes import everybody, send
from controlplane.operations.errors import LeaseLost, StepError
from tests.backups.clusters import Source, archived, until
from tests.backups.hands import PaperHand

ENGINE = PitrEngine()
Take = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_stream, "BEGINNING_SECONDS", 0.2)
    monkeypatch.setattr(wal_stream, "POLL_SECONDS", 0.2)


def take(policy: Policy, parent: dict[str, Any] | None = None, hand: PaperHand | None = None) -> dict[str, Any]:
    """Make a backup; its manifest, which is in the storage too."""
    started = timezone.now()
    key = f"{policy.prefix}{started:%H%M%S%f}/"
    job = job_of(policy, key)
    job = type(job)(**{**job.__dict__, "parent": parent})
    taken = ENGINE.take(job, hand or PaperHand())
    manifest = manifest_of(
        job, taken, kind=policy.kind, operation=1, started_at=started, finished_at=timezone.now()
    )  # fmt: skip
    job.store.put(key + NAME, [encoded(manifest)])
    return manifest


@contextmanager
def restored(
    policy: Policy, chain: list[dict[str, Any]], moment: datetime | None, hand: PaperHand | None = None
) -> Iterator[list[str]]:
    """The notes that are there after a restore."""
    scratch = Scratch(11, 1)
    scratch.open()
    try:
        restore_to(scratch, policy, chain, moment, store_of(policy), sealer_of(policy), hand or PaperHand())
        with scratch.server("controlplane").connect() as connection:
            yield [row[0] for row in connection.execute("SELECT text FROM notes ORDER BY id")]
    finally:
        scratch.remove()


def notes(policy: Policy, chain: list[dict[str, Any]], moment: datetime | None) -> list[str]:
    with restored(policy, chain, moment) as found:
        return found


def test_exactly_what_was_there_at_a_moment(source: Source, pitr: Policy) -> None:
    with Receiver():
        source.write("before the base")
        until(WalRange.objects.exists)
        whole = take(pitr)
        first = source.write("first")
        source.write("second")
        source.fill(2)
        part = take(pitr, whole)
        third = source.write("third")
        last = source.write("fourth")
        until(lambda: archived(pitr, last))
    assert (whole["level"], part["level"]) == ("full", "incremental")
    assert part["objects"][0]["size"] < whole["objects"][0]["size"] / 2
    assert notes(pitr, [whole], first) == ["before the base", "first"]
    assert notes(pitr, [whole, part], third) == ["before the base", "first", "second", "third"]
    # Nothing was committed after it, so only the archive knows that this is all.
    assert notes(pitr, [whole, part], last) == ["before the base", "first", "second", "third", "fourth"]
    assert notes(pitr, [whole, part], None) == ["before the base", "first", "second"]


def test_a_base_restores_without_any_archive(source: Source, pitr: Policy) -> None:
    source.write("one")
    whole = take(pitr)
    source.write("two")
    assert notes(pitr, [whole], None) == ["one"]


def test_encrypted_ones_too(source: Source, pitr: Policy, data_dir: Any) -> None:
    secret, recipient = new_identity()
    (data_dir / "secrets" / "key").write_text(secret)
    Policy.objects.update(recipient=recipient, identity="file:key")
    pitr.refresh_from_db()
    with Receiver():
        source.write("one")
        until(WalRange.objects.exists)
        whole = take(pitr)
        part = take(pitr, whole)
        moment = source.write("two")
        source.write("three")
        until(lambda: archived(pitr, moment + timedelta(milliseconds=1)))
    assert part["level"] == "incremental"
    assert all(entry.key.endswith((".age", "manifest.json")) for entry in store_of(pitr).list(pitr.prefix))
    assert notes(pitr, [whole, part], moment) == ["one", "two"]


def test_the_window_is_what_can_be_restored(source: Source, pitr: Policy) -> None:
    with Receiver():
        source.write("one")
        until(WalRange.objects.exists)
        whole = take(pitr)
        backup = enter(whole, pitr.storage, pitr)
        last = source.write("two")
        until(lambda: archived(pitr, last))
        (window,) = recoverable(pitr)
        assert window.backup == backup.pk and window.since <= last <= window.until


def test_a_moment_after_the_end_of_the_wal_is_refused(source: Source, pitr: Policy) -> None:
    with Receiver():
        source.write("one")
        until(WalRange.objects.exists)
        whole = take(pitr)
        last = source.write("two")
        until(lambda: archived(pitr, last))
    with pytest.raises(StepError, match="ends before"):
        notes(pitr, [whole], last + timedelta(hours=1))
    with pytest.raises(StepError, match="before the end of the backup"):
        notes(pitr, [whole], last - timedelta(hours=1))


def test_a_segment_that_is_missing_is_named(source: Source, pitr: Policy) -> None:
    with Receiver():
        source.write("one")
        until(WalRange.objects.exists)
        whole = take(pitr)
        source.fill(4)
        last = source.write("two")
        until(lambda: archived(pitr, last))
    store = store_of(pitr)
    whole_ones = [entry.key for entry in store.list(f"{pitr.prefix}wal/") if "partial" not in entry.key]
    store.delete([whole_ones[-2]])
    name = whole_ones[-2].rpartition("/")[2].removesuffix(".zst")
    with pytest.raises(StepError, match=f"{name} is missing in the storage, though later ones are there"):
        notes(pitr, [whole], last)


def flip(store: Any, key: str) -> None:
    path = store.root / key
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_found_and_nothing_is_left(source: Source, pitr: Policy) -> None:
    source.write("one")
    whole = take(pitr)
    store = store_of(pitr)
    assert isinstance(store, FolderStore)
    flip(store, whole["objects"][0]["key"])
    with pytest.raises(StepError, match="is damaged"):
        notes(pitr, [whole], None)
    assert not Scratch(11, 1).home.exists()


def test_a_base_that_is_cut_short_is_found(source: Source, pitr: Policy) -> None:
    source.write("one")
    whole = take(pitr)
    store = store_of(pitr)
    assert isinstance(store, FolderStore)
    path = store.root / whole["objects"][0]["key"]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(StepError, match="is damaged"):
        notes(pitr, [whole], None)


@pytest.mark.parametrize(
    ("facts", "why"),
    [({"system_identifier": "7"}, "of another cluster"), ({"timeline": 9}, "of timeline 9, the server is on 1")],
)
def test_what_cannot_be_built_upon_makes_a_whole_one(
    source: Source, pitr: Policy, facts: dict[str, Any], why: str
) -> None:
    source.write("one")
    whole = take(pitr)
    hand = PaperHand()
    after = take(pitr, {**whole, "facts": {**whole["facts"], **facts}}, hand)
    assert after["level"] == "full" and why in " ".join(hand.lines)


def test_a_lost_list_of_files_makes_a_whole_one(source: Source, pitr: Policy) -> None:
    source.write("one")
    whole = take(pitr)
    store_of(pitr).delete([whole["objects"][1]["key"]])
    hand = PaperHand()
    assert take(pitr, whole, hand)["level"] == "full"
    assert "the list of files" in " ".join(hand.lines)


def test_summaries_that_are_gone_make_a_whole_one(source: Source, pitr: Policy) -> None:
    source.write("one")
    whole = take(pitr)
    source.fill(2)
    source.ask("CHECKPOINT")
    try:
        source.ask("ALTER SYSTEM SET summarize_wal = off")
        source.postgres.settings = {**source.postgres.settings, "summarize_wal": "off"}
        source.postgres.restart()
        for path in (source.postgres.folder / "pg_wal" / "summaries").iterdir():
            path.unlink()
        hand = PaperHand()
        assert take(pitr, whole, hand)["level"] == "full"
        assert "summarize_wal is off" in " ".join(hand.lines)
    finally:
        source.ask("ALTER SYSTEM RESET summarize_wal")
        source.postgres.settings = {**source.postgres.settings, "summarize_wal": "on"}
        source.postgres.restart()


def test_a_killed_pg_basebackup_leaves_nothing(source: Source, pitr: Policy) -> None:
    source.fill(2)

    class Killer(PaperHand):
        def check(self) -> None:
            for process in everybody():
                if process.name == "pg_basebackup":
                    send(process.pid, signal.SIGKILL)

    with pytest.raises(StepError, match=r"pg_basebackup exited -9"):
        take(pitr, hand=Killer())
    assert [entry.key for entry in store_of(pitr).list(pitr.prefix)] == []


def is_ours(pid: int) -> bool:
    """Whether this process started it: others of its name belong to tests that run beside this one."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
    return False


def test_a_lost_lease_ends_pg_basebackup(source: Source, pitr: Policy) -> None:
    source.fill(2)
    hand = PaperHand()
    hand.lost = LeaseLost("somebody else")
    with pytest.raises(LeaseLost):
        take(pitr, hand=hand)
    assert not [process for process in everybody() if process.name == "pg_basebackup" and is_ours(process.pid)]
    assert list(store_of(pitr).list(pitr.prefix)) == []


def test_look_says_which_setting_to_change(source: Source, pitr: Policy, data_dir: Any) -> None:
    ENGINE.look(job_of(pitr, f"{pitr.prefix}x/"), PaperHand())
    source.ask("DROP ROLE IF EXISTS outsider")
    source.ask("CREATE ROLE outsider LOGIN PASSWORD 'outsider-password'")
    url = source.url.replace("controlplane:source-password", "outsider:outsider-password")
    (data_dir / "secrets" / "source").write_text(url)
    with pytest.raises(StepError, match="ALTER ROLE outsider REPLICATION") as caught:
        ENGINE.look(job_of(pitr, f"{pitr.prefix}x/"), PaperHand())
    assert "outsider-password" not in str(caught.value)
    source.ask("ALTER ROLE outsider REPLICATION")
    ENGINE.look(job_of(pitr, f"{pitr.prefix}x/"), PaperHand())


def test_settings_are_checked() -> None:
    assert ENGINE.check_settings({"database": "file:source"}) == {}
    assert ENGINE.check_settings({}) == {"database": "has to be the secret reference of a connection URL"}
    wrong = ENGINE.check_settings({"database": "postgres://x", "slot": "Big Slot", "host": "x"})
    assert wrong.keys() == {"database", "slot", "host"}


def test_facts_are_those_of_the_cluster(source: Source, pitr: Policy) -> None:
    source.write("one")
    hand = PaperHand()
    before = source.ask("SELECT clock_timestamp()")
    manifest = take(pitr, hand=hand)
    facts = manifest["facts"]
    assert facts["system_identifier"] == str(source.ask("SELECT system_identifier FROM pg_control_system()"))
    assert facts["timeline"] == 1 and facts["segment_bytes"] == 16 * 1024 * 1024
    assert before < datetime.fromisoformat(manifest["as_of"]) < source.ask("SELECT clock_timestamp()")
    assert "source-password" in hand.masked
    assert cluster_at(Server.of_url(source.url)).facts().items() <= facts.items()
