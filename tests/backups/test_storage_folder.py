"""A folder as storage: whole objects or none, whatever happens on the way, and words for what is wrong with a disk."""

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.models import Storage
from backups.storage import STORES, open_store
from backups.storage.folder import PROBE, FolderStore
from controlplane.operations.errors import LeaseLost, StepError

MB = 1024 * 1024


@pytest.fixture
def store(data_dir: Path) -> FolderStore:
    """One below DATA_DIR."""
    found = open_store(Storage(slug="here", kind="folder", settings={"path": "backups"}))
    assert isinstance(found, FolderStore)
    return found


def files(store: FolderStore) -> list[str]:
    """All there is on the disk, hidden or not."""
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*"))


def read(store: FolderStore, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


def test_there_and_back(store: FolderStore) -> None:
    stored = store.put("production/main/1/dump.zst", iter([b"one", b"", b"two"]))
    assert (stored.key, stored.size, stored.version) == ("production/main/1/dump.zst", 6, "")
    assert stored.sha256 == hashlib.sha256(b"onetwo").hexdigest()
    assert read(store, stored.key) == b"onetwo"
    entry = store.head(stored.key)
    assert entry is not None and entry.size == 6
    assert abs(entry.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert store.locked_until(stored.key) is None and store.problem() == ""


def test_only_the_owner_reads(store: FolderStore) -> None:
    os.umask(old := os.umask(0))
    try:
        os.umask(0)
        store.put("a/b/c", [b"x"])
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [store.root, *store.root.rglob("*")]}
    assert modes == {0o700, 0o600}


def test_a_listing_is_in_the_order_of_keys_and_hides_what_is_not_finished(store: FolderStore) -> None:
    keys = ["a/1", "a-b", "a.b/c", "a/2/x", "a0", "b"]
    for key in keys:
        store.put(key, [key.encode()])
    listed: list[list[str]] = []

    def chunks() -> Iterator[bytes]:
        yield b"x"
        listed.append([entry.key for entry in store.list("")])

    store.put("a/3", chunks())
    assert listed == [sorted(keys)]
    assert [entry.key for entry in store.list("a/")] == ["a/1", "a/2/x", "a/3"]
    assert [entry.key for entry in store.list("a")] == sorted({*keys, "a/3"} - {"b"})
    assert [entry.key for entry in store.list("nothing/here")] == []


def test_a_new_one_takes_the_place_of_the_old(store: FolderStore) -> None:
    store.put("key", [b"old and long"])
    with store.open("key") as file:
        store.put("key", [b"new"])
        assert file.read() == b"old and long"
    assert read(store, "key") == b"new"


def test_deletion_takes_empty_folders_along(store: FolderStore) -> None:
    for key in ("a/b/1", "a/b/2", "a/c/1"):
        store.put(key, [b"x"])
    assert store.delete(["a/b/1", "a/b/never", "a/b/2"]) == 3
    assert files(store) == ["a", "a/c", "a/c/1"]
    store.delete(iter(["a/c/1"]))
    assert files(store) == [] and store.root.is_dir()


class TestNothingHalf:
    """What goes wrong leaves nothing."""

    @pytest.mark.parametrize("error", [StepError("pg_dump was killed"), LeaseLost("gone"), KeyboardInterrupt()])
    def test_an_error_of_the_source(self, store: FolderStore, error: BaseException) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"x" * MB
            raise error

        with pytest.raises(type(error)) as raised:
            store.put("a", chunks())
        assert raised.value is error
        assert files(store) == []

    def test_the_lease_is_asked_for_on_the_way_and_at_the_end(self, store: FolderStore) -> None:
        asked = []
        store.put("a", [bytes(MB)] * 20, check=lambda: asked.append(store.head("a")))
        assert asked == [None] * 4  # at the beginning, twice on the way, at the end

    @pytest.mark.parametrize("last", [0, 1, 2])
    def test_a_lost_lease(self, store: FolderStore, last: int) -> None:
        left = iter(range(last))

        def check() -> None:
            if next(left, None) is None:
                raise LeaseLost

        with pytest.raises(LeaseLost):
            store.put("a", [bytes(9 * MB)] * 2, check=check)
        assert files(store) == []

    def test_a_frozen_writer_does_not_come_back(self, store: FolderStore) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            assert store.abandon("production/main/") == 1
            yield b"whole"

        with pytest.raises(StepError, match="Another worker gave the writing of production/main/1/dump up"):
            store.put("production/main/1/dump", chunks())
        assert [name for name in files(store) if (store.root / name).is_file()] == []

    def test_a_killed_writer_is_cleaned_up_after(self, store: FolderStore) -> None:
        program = (
            "import os, signal, pathlib, django; django.setup(); from backups.storage.folder import FolderStore\n"
            "def chunks():\n"
            "    yield b'half'\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            f"FolderStore(pathlib.Path({str(store.root)!r})).put('a/dump', chunks())"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
        assert list(store.list("")) == [] and len(files(store)) == 2
        assert store.abandon("b") == 0 and store.abandon("a/d") == 1
        assert files(store) == []

    def test_another_one_is_not_abandoned(self, store: FolderStore) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"x"
            assert store.abandon("a/2") == 0

        store.put("a/1", chunks())
        assert store.abandon("") == 0 and read(store, "a/1") == b"x"


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", ".hidden", "a/.hidden/b", "a\0b", "ä" * 101]
)
def test_keys_that_lead_away_or_hide(store: FolderStore, key: str) -> None:
    for action in (
        store.head,
        lambda key: store.put(key, []),
        lambda key: store.delete([key]),
        lambda key: read(store, key),
    ):
        with pytest.raises(StepError, match="cannot be the name of an object") as raised:
            action(key)
        assert raised.value.permanent


class TestDisk:
    """What can be wrong with it."""

    def test_not_there(self, tmp_path: Path) -> None:
        store = STORES["folder"].open({"path": str(tmp_path / "unmounted")})
        words = "there is no folder .*unmounted. Make it, or mount the disk"
        for action in (
            lambda: store.put("a", [b"x"]), lambda: store.head("a"), lambda: list(store.list("")),
            lambda: store.delete(["a"]), lambda: store.abandon("a"),
        ):  # fmt: skip
            with pytest.raises(StepError, match=words) as raised:
                action()
            assert raised.value.permanent
        assert "there is no folder" in store.problem()
        assert not (tmp_path / "unmounted").exists()

    def test_the_probe_of_a_killed_worker_is_removed(self, store: FolderStore) -> None:
        (store.root / PROBE).touch()
        assert store.problem() == "" and list(store.root.iterdir()) == []

    def test_no_right_to_write(self) -> None:
        store = STORES["folder"].open({"path": "/sys"})  # not even root writes there
        assert "this process may not write or read in /sys" in store.problem()
        with pytest.raises(StepError, match="this process may not") as raised:
            store.put("a", [b"x"])
        assert raised.value.permanent

    def test_an_object_that_is_not_there(self, store: FolderStore) -> None:
        store.put("a", [b"x"])
        for key in ("b", "a/b"):
            assert store.head(key) is None
            with pytest.raises(StepError, match=r"Cannot read .*: it is not in") as raised:
                read(store, key)
            assert raised.value.permanent
        store.delete(["a/b"])
        with pytest.raises(StepError, match="Cannot write a/b"):
            store.put("a/b", [b"x"])

    def test_a_disk_that_fails_while_it_is_read(self, store: FolderStore) -> None:
        (store.root / "a").symlink_to("/proc/self/mem")
        with store.open("a") as file, pytest.raises(StepError, match=r"Cannot read a in .*: Input/output error"):
            file.read(10)
        with store.open("a") as file, pytest.raises(StepError, match=r"Cannot read a in .*: Input/output error"):
            file.read()

    def test_full(self, tmp_path: Path) -> None:
        program = (
            "import pathlib, os, django; django.setup(); from backups.storage.folder import FolderStore\n"
            f"store = FolderStore(pathlib.Path({str(tmp_path)!r}))\n"
            "try:\n"
            "    store.put('a', [bytes(1 << 20)] * 9)\n"
            "except Exception as error:\n"
            "    print(error, error.permanent, os.listdir(store.root))"
        )
        mount = f'mount -t tmpfs -o size=4m none {tmp_path} && exec "$0" -c "$1"'
        own = ["unshare", "--map-root-user", "--mount"]
        if subprocess.run(
            [*own, "sh", "-c", f"mount -t tmpfs none {tmp_path}"], check=False, capture_output=True
        ).returncode:
            pytest.skip("no file system of its own can be made here")
        ran = subprocess.run(
            [*own, "sh", "-c", mount, sys.executable, program], check=True, capture_output=True, text=True
        )
        assert ran.stdout == (
            f"Cannot write a: the disk of {tmp_path} is full (0 MB are free). Make room, then try again. False []\n"
        )


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"path": "/mnt/backups"}, {}),
        ({"path": "backups/main"}, {}),
        ({}, {"path": "has to be the path of a folder"}),
        ({"path": 7}, {"path": "has to be the path of a folder"}),
        ({"path": "../elsewhere"}, {"path": "must not contain .."}),
        ({"path": "a", "bucket": "b"}, {"bucket": "is not a setting of a folder"}),
    ],
)
def test_settings(settings: dict[str, object], wrong: dict[str, str]) -> None:
    assert STORES["folder"].check_settings(settings) == wrong
    if wrong:
        with pytest.raises(StepError, match="The storage's setting"):
            STORES["folder"].open(settings)
