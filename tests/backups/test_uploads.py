"""Uploads: each backup has every file of its moment, and what is unchanged is neither read nor stored again."""

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import zstandard

from backups.engines import uploads
from backups.engines.contents import suffix_for
from backups.engines.file_index import read_index
from backups.engines.uploads import UploadsEngine
from backups.sealing import Sealer, new_identity
from controlplane.operations.errors import LeaseLost, StepError
from tests.backups.files import Manifest, Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    folder = tmp_path / "uploads"
    folder.mkdir()
    return Shelf(UploadsEngine(), "uploads", {"source": {"folder": str(folder)}}, tmp_path / "storage")


def folder(shelf: Shelf) -> Path:
    return Path(shelf.settings["source"]["folder"])


def write(shelf: Shelf, name: str, data: bytes, age: float = 60) -> Path:
    """A file that has been like that for a while."""
    path = folder(shelf) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    at = path.stat().st_mtime_ns - int(age * 1e9)
    os.utime(path, ns=(at, at))
    return path


def names(shelf: Shelf, manifest: Manifest) -> list[str]:
    return [os.fsdecode(one.name) for one in read_index(shelf.store, manifest, shelf.sealer)]


def content_of(data: bytes, suffix: str = "") -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"files/{digest[:2]}/{digest}{suffix}"


def test_each_file_is_in_the_index_and_each_content_once_in_the_storage(shelf: Shelf) -> None:
    write(shelf, "a.txt", b"same")
    write(shelf, "a/b.txt", b"same").chmod(0o640)
    write(shelf, "ü/leer", b"")
    manifest = shelf.take()
    facts = manifest["facts"]
    assert (facts["files"], facts["bytes"], facts["reused"], facts["deleted"]) == (3, 8, 0, 0)
    assert shelf.keys("files/") == sorted({content_of(b"same"), content_of(b"")})
    found = {one.name: one for one in read_index(shelf.store, manifest, shelf.sealer)}
    assert list(found) == [b"a.txt", b"a/b.txt", "ü/leer".encode()]
    assert found[b"a/b.txt"].mode == 0o640
    assert found[b"a/b.txt"].modified_ns == (folder(shelf) / "a/b.txt").stat().st_mtime_ns


def test_only_what_is_new_is_read_and_stored(shelf: Shelf) -> None:
    write(shelf, "old", b"old")
    write(shelf, "goes", b"goes")
    write(shelf, "changes", b"before")
    shelf.take()
    (folder(shelf) / "goes").unlink()
    write(shelf, "changes", b"after!")
    write(shelf, "new", b"new")
    second = shelf.take()
    facts = second["facts"]
    assert (facts["new_files"], facts["new_bytes"], facts["reused"], facts["deleted"]) == (2, 9, 1, 1)
    assert second["source_bytes"] == 9
    assert names(shelf, second) == ["changes", "new", "old"]
    assert names(shelf, shelf.manifests[0]) == ["changes", "goes", "old"]  # as it was
    assert content_of(b"goes") in shelf.keys("files/")


def test_a_file_that_was_changed_and_given_its_old_time_is_read_again(shelf: Shelf) -> None:
    path = write(shelf, "a", b"before")
    shelf.take()
    write(shelf, "a", b"after!")
    os.utime(path, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    assert shelf.take()["facts"]["new_files"] == 1


def test_a_file_changed_just_now_is_read_the_next_time_too(shelf: Shelf) -> None:
    write(shelf, "young", b"young", age=0)
    shelf.take()
    assert shelf.take()["facts"]["reused"] == 0


def test_after_some_days_all_files_are_read_again(shelf: Shelf) -> None:
    write(shelf, "a", b"a")
    first = shelf.take()
    assert shelf.take()["facts"]["checked_at"] == first["facts"]["checked_at"]
    shelf.manifests[-1]["facts"]["checked_at"] = "2020-01-01T00:00:00+00:00"
    third = shelf.take()
    assert third["facts"]["reused"] == 0 and third["source_bytes"] == 1
    assert third["facts"]["new_files"] == 0


def test_a_content_that_is_gone_or_cut_off_is_put_there_again(shelf: Shelf) -> None:
    write(shelf, "gone", b"gone")
    write(shelf, "cut", b"to be cut off")
    shelf.take()
    (shelf.root / shelf.prefix / content_of(b"gone")).unlink()
    (shelf.root / shelf.prefix / content_of(b"to be cut off")).write_bytes(b"to be")
    assert shelf.take()["facts"]["new_files"] == 2
    assert (shelf.root / shelf.prefix / content_of(b"to be cut off")).read_bytes() == b"to be cut off"


def test_links_and_pipes_are_named_and_left_out(shelf: Shelf) -> None:
    write(shelf, "a", b"a")
    (folder(shelf) / "link").symlink_to("/etc/passwd")
    (folder(shelf) / "folder").symlink_to("/etc")
    os.mkfifo(folder(shelf) / "pipe")
    manifest = shelf.take()
    assert names(shelf, manifest) == ["a"] and manifest["facts"]["left_out"] == 3
    told = "folder (symbolic link), link (symbolic link), pipe (not a regular file)"
    assert any(told in line for line in shelf.hand.lines)


def test_names_that_are_no_utf8(shelf: Shelf) -> None:
    name = b"caf\xe9\n\x01.txt"
    (folder(shelf) / os.fsdecode(name)).write_bytes(b"x")
    assert [one.name for one in read_index(shelf.store, shelf.take(), shelf.sealer)] == [name]


def test_the_index_is_json(shelf: Shelf) -> None:
    write(shelf, "a", b"a")
    write(shelf, "b", b"b")
    key = shelf.root / shelf.take()["objects"][0]["key"]
    with key.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as plain:
        text = plain.read()
    found = json.loads(text)
    assert [one["path"] for one in found["files"]] == ["a", "b"]
    assert found["files"][0]["sha256"] == hashlib.sha256(b"a").hexdigest()


def test_an_empty_source_is_fine_the_first_time_and_suspicious_later(shelf: Shelf) -> None:
    assert shelf.take()["facts"]["files"] == 0
    path = write(shelf, "a", b"a")
    shelf.take()
    path.unlink()
    with pytest.raises(StepError, match="Is the volume mounted") as raised:
        shelf.take()
    assert raised.value.permanent
    shelf.settings["allow_empty"] = True
    assert shelf.take()["facts"]["deleted"] == 1


def test_a_missing_source_is_said_at_the_look(shelf: Shelf) -> None:
    folder(shelf).rmdir()
    with pytest.raises(StepError, match=r"There is no folder .*uploads on this worker's machine"):
        UploadsEngine().look(shelf.job(), shelf.hand)


@pytest.mark.parametrize("size", [10_000, uploads.SMALL + 1])
def test_a_file_that_changes_while_it_is_read(shelf: Shelf, size: int) -> None:
    """Only ever one state of it, or a warning: a large one is then kept as the backup before has it."""
    path = write(shelf, "busy", b"0" * size)
    write(shelf, "calm", b"calm")
    first = shelf.take()
    stop = threading.Event()

    def scribble() -> None:
        number = 0
        with path.open("r+b", buffering=0) as file:
            while not stop.is_set():
                number += 1
                file.seek(0)
                file.write(str(number % 10).encode() * size)

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        second = shelf.take()
    finally:
        stop.set()
        thread.join()
    assert names(shelf, second) == ["busy", "calm"]
    warned = [line for line in shelf.hand.lines if "busy changed each time it was read" in line]
    assert len(warned) == second["facts"]["unsteady"]
    if size > uploads.SMALL and warned:
        before, after = (next(read_index(shelf.store, one, shelf.sealer)) for one in (first, second))
        assert (after.sha256, after.mark) == (before.sha256, "")
    assert shelf.take()["facts"]["files"] == 2


def test_a_file_that_vanishes_is_left_out_with_a_warning(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(shelf, f"{number:02}", str(number).encode()) for number in range(60)]
    engine = uploads._Run._read

    def read(self: Any, found: Any, before: Any) -> Any:
        paths[-1].unlink(missing_ok=True)  # after it was listed: lists are read a folder at a time
        return engine(self, found, before)

    monkeypatch.setattr(uploads._Run, "_read", read)
    manifest = shelf.take()
    assert names(shelf, manifest) == [path.name for path in paths[:-1]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_fails_the_backup(shelf: Shelf) -> None:
    write(shelf, "secret", b"x").chmod(0)
    with pytest.raises(StepError, match=r"may not use .*secret"):
        shelf.take()


def test_who_lost_the_lease_stops_and_leaves_no_thread(shelf: Shelf) -> None:
    for number in range(50):
        write(shelf, str(number), str(number).encode())
    shelf.hand.lost = LeaseLost("gone")
    with pytest.raises(LeaseLost):
        shelf.take()
    assert shelf.keys() == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("files")]


class TestEncrypted:
    @pytest.fixture
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
        (first, one), (second, other) = new_identity(), new_identity()
        monkeypatch.setenv("AGE_KEYS", f"{first}\n{second}")
        return one, other

    def test_what_is_stored_is_sealed_and_reused(self, shelf: Shelf, keys: tuple[str, str]) -> None:
        shelf.sealer = Sealer(keys[0], "env:AGE_KEYS")
        write(shelf, "a", b"plain text")
        manifest = shelf.take()
        name = content_of(b"plain text", suffix_for(keys[0]))
        assert shelf.keys("files/") == [name]
        assert b"plain text" not in (shelf.root / shelf.prefix / name).read_bytes()
        assert [one["name"] for one in manifest["objects"]] == ["index.json.zst.age", "references.txt.zst"]
        assert shelf.take()["facts"]["reused"] == 1

    def test_without_the_key_all_is_read_and_nothing_stored_again(self, shelf: Shelf, keys: tuple[str, str]) -> None:
        shelf.sealer = Sealer(keys[0])
        write(shelf, "a", b"plain text")
        shelf.take()
        second = shelf.take()
        assert (second["facts"]["reused"], second["facts"]["new_files"]) == (0, 0)
        assert any("all files are read" in line for line in shelf.hand.lines)

    def test_another_key_means_other_objects(self, shelf: Shelf, keys: tuple[str, str]) -> None:
        shelf.sealer = Sealer(keys[0], "env:AGE_KEYS")
        write(shelf, "a", b"plain text")
        shelf.take()
        shelf.sealer = Sealer(keys[1], "env:AGE_KEYS")
        assert shelf.take()["facts"]["new_files"] == 1
        assert shelf.keys("files/") == sorted(content_of(b"plain text", suffix_for(key)) for key in keys)


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({}, "source", "has to be"),
        ({"source": {"folder": ""}}, "source.folder", "has to be"),
        ({"source": {"folder": "/a/../b"}}, "source.folder", "has to be"),
        ({"source": {"folder": "/a", "bucket": "b"}}, "source", "has to be"),
        ({"source": {"bucket": "b"}}, "source.region", "region"),
        ({"source": {"folder": "/a"}, "recheck_every_days": 0}, "recheck_every_days", "number of days"),
        ({"source": {"folder": "/a"}, "else": 1}, "else", "no setting"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], key: str, words: str) -> None:
    assert words in UploadsEngine().check_settings(settings)[key]


def test_good_settings() -> None:
    engine = UploadsEngine()
    assert engine.check_settings({"source": {"folder": "/a"}, "recheck_every_days": 3, "allow_empty": True}) == {}
    assert engine.check_settings({"source": {"bucket": "b-cket", "region": "eu-west-1", "prefix": "up"}}) == {}
