"""Uploads come back as they were, only below the folder they are restored into, and each with its checksum compared."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.engines.beneath import UNFINISHED, parts_of
from backups.engines.contents import Lines
from backups.engines.file_index import Indexed, IndexWriter
from backups.engines.uploads import UploadsEngine
from backups.restoring_files import Restored, restore_files
from backups.sealing import Sealer, new_identity
from controlplane.operations.errors import LeaseLost, StepError
from tests.backups.files import Manifest, Shelf

FILES = {"a.txt": b"a", "b/c.txt": b"c" * 3_000_000, "b/d/e": b"", os.fsdecode(b"caf\xe9"): b"x"}


@pytest.fixture(params=["plain", "sealed"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    secret, recipient = new_identity()
    monkeypatch.setenv("AGE_KEY", secret)
    folder = tmp_path / "uploads"
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o4640)
        os.utime(path, ns=(1_700_000_000_123_456_789,) * 2)
    sealer = Sealer(recipient, "env:AGE_KEY") if request.param == "sealed" else Sealer()
    shelf = Shelf(UploadsEngine(), "uploads", {"source": {"folder": str(folder)}}, tmp_path / "storage", sealer)
    shelf.take()
    return shelf


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def restore(shelf: Shelf, target: Path, **options: Any) -> Restored:
    return restore_files(shelf.manifests[-1], shelf.store, shelf.sealer, target, shelf.hand, **options)


def there(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_comes_back(shelf: Shelf, target: Path) -> None:
    done = restore(shelf, target)
    assert (done.written, done.same) == (4, 0)
    assert there(target) == FILES
    status = (target / "a.txt").stat()
    assert (status.st_mtime_ns, status.st_mode & 0o7777) == (1_700_000_000_123_456_789, 0o640)
    assert shelf.hand.told[-1] == (3_000_002, 3_000_002, "bytes")


def test_again_changes_nothing_but_what_differs(shelf: Shelf, target: Path) -> None:
    restore(shelf, target)
    (target / "a.txt").write_bytes(b"b")
    (target / "b" / "d" / "e").unlink()
    (target / "extra").write_bytes(b"stays")
    done = restore(shelf, target)
    assert (done.written, done.same, done.removed) == (2, 2, 0)
    assert there(target) == {**FILES, "extra": b"stays"}


def test_one_folder_or_one_file(shelf: Shelf, target: Path) -> None:
    restore(shelf, target, only="b/d")
    assert there(target) == {"b/d/e": b""}
    restore(shelf, target, only="a.txt")
    assert set(there(target)) == {"b/d/e", "a.txt"}
    with pytest.raises(StepError, match="no a in this backup"):
        restore(shelf, target, only="a")


def test_what_is_not_in_the_backup_goes_only_when_asked_to(shelf: Shelf, target: Path) -> None:
    (target / "b").mkdir(parents=True)
    (target / "b" / "extra").write_bytes(b"x")
    (target / "other").write_bytes(b"x")
    (target / "link").symlink_to("/etc/passwd")
    assert restore(shelf, target, only="b", remove_others=True).removed == 1
    assert (target / "other").exists()
    assert restore(shelf, target, remove_others=True).removed == 1
    assert there(target).keys() - {"link"} == FILES.keys()
    assert (target / "link").is_symlink()


def test_a_link_in_the_place_of_a_folder_is_not_followed(shelf: Shelf, target: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target.mkdir()
    (target / "b").symlink_to(elsewhere)
    with pytest.raises(StepError, match="symbolic link stands where") as raised:
        restore(shelf, target)
    assert raised.value.permanent and list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced(shelf: Shelf, target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"a")  # even of the same content
    target.mkdir()
    (target / "a.txt").symlink_to(victim)
    restore(shelf, target)
    assert not (target / "a.txt").is_symlink() and victim.read_bytes() == b"a"


def test_a_flipped_bit_is_found_and_nothing_of_the_file_appears(shelf: Shelf, target: Path) -> None:
    digest = hashlib.sha256(FILES["b/c.txt"]).hexdigest()
    (path,) = (shelf.root / shelf.prefix / "files").rglob(f"{digest}*")
    data = bytearray(path.read_bytes())
    data[2_000_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(StepError) as raised:
        restore(shelf, target)
    assert raised.value.permanent and "b/c.txt" not in there(target)
    assert not [path for path in target.rglob("*") if path.name.startswith(UNFINISHED.decode())]


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_index_is_found(shelf: Shelf, target: Path, harm: str) -> None:
    path = shelf.root / shelf.manifests[0]["objects"][0]["key"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data if harm == "flip" else data[:-3])
    with pytest.raises(StepError) as raised:
        restore(shelf, target)
    assert raised.value.permanent


def test_what_a_killed_restore_left_goes(shelf: Shelf, target: Path) -> None:
    (target / "b").mkdir(parents=True)
    (target / "b" / f"{UNFINISHED.decode()}0123").write_bytes(b"half")
    restore(shelf, target)
    assert there(target) == FILES


def test_who_lost_the_lease_writes_nothing(shelf: Shelf, target: Path) -> None:
    shelf.hand.lost = LeaseLost("gone")
    with pytest.raises(LeaseLost):
        restore(shelf, target)
    assert there(target) == {}


@pytest.mark.parametrize("name", [b"../x", b"/etc/x", b"a/../../x", b"a//b", b"a/./b", b"a\0b", b"..", b"a/"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, target: Path, name: bytes) -> None:
    """Somebody who can write into the storage can write an index; the folder is the end of their reach."""
    shelf = Shelf(UploadsEngine(), "uploads", {}, tmp_path / "storage")
    manifest = forged(shelf, Indexed(name, 1, hashlib.sha256(b"x").hexdigest(), 0, 0o644, "", 1))
    with pytest.raises(StepError, match="is no name of a file"):
        restore_files(manifest, shelf.store, shelf.sealer, target, shelf.hand)
    assert there(tmp_path).keys() == {str(path.relative_to(tmp_path)) for path in storage_files(tmp_path)}
    with pytest.raises(StepError):
        parts_of(name)


def forged(shelf: Shelf, *files: Indexed) -> Manifest:
    with Lines() as lines:
        writer = IndexWriter(lines, "")
        for one in files:
            writer.add(one)
        writer.end()
        stored = shelf.store.put(f"{shelf.prefix}1/index.json.zst", lines.chunks())
    entry = {"name": "index.json.zst", "key": stored.key, "sha256": stored.sha256, "size": stored.size}
    facts = {"files": len(files), "bytes": 1}
    return {"key": f"{shelf.prefix}1/", "key_id": "", "objects": [entry], "facts": facts}


def storage_files(folder: Path) -> Iterator[Path]:
    return (path for path in (folder / "storage").rglob("*") if path.is_file())
