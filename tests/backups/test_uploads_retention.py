"""Contents go when, and only when, no kept backup needs them; if that cannot be told, nothing goes."""

import hashlib
import random
from pathlib import Path

import pytest

from backups.engines.contents import Digests
from backups.engines.uploads import UploadsEngine, unreferenced
from backups.restoring_files import restore_files
from backups.sealing import Sealer, new_identity
from controlplane.operations.errors import StepError
from tests.backups.files import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "uploads").mkdir()
    return Shelf(UploadsEngine(), "uploads", {"source": {"folder": str(tmp_path / "uploads")}}, tmp_path / "storage")


def put(tmp_path: Path, name: str, data: str) -> None:
    (tmp_path / "uploads" / name).write_text(data)


def test_what_only_deleted_backups_need_goes(shelf: Shelf, tmp_path: Path) -> None:
    put(tmp_path, "a", "stays")
    put(tmp_path, "b", "goes")
    first = shelf.take()
    put(tmp_path, "b", "comes")
    second = shelf.take()
    assert list(unreferenced(shelf.store, shelf.prefix, [first, second])) == []
    (key,) = unreferenced(shelf.store, shelf.prefix, [second])
    digest = hashlib.sha256(b"goes").hexdigest()
    assert key == f"{shelf.prefix}files/{digest[:2]}/{digest}"
    assert len(list(unreferenced(shelf.store, shelf.prefix, []))) == 3


def test_no_key_is_needed_to_tell(shelf: Shelf, tmp_path: Path) -> None:
    shelf.sealer = Sealer(new_identity()[1])
    put(tmp_path, "a", "first")
    first = shelf.take()
    shelf.sealer = Sealer(new_identity()[1])
    second = shelf.take()
    (key,) = unreferenced(shelf.store, shelf.prefix, [first])
    assert key != next(unreferenced(shelf.store, shelf.prefix, [second]))


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_when_it_cannot_be_told_nothing_goes(shelf: Shelf, tmp_path: Path, harm: str) -> None:
    put(tmp_path, "a", "first")
    first = shelf.take()
    put(tmp_path, "a", "second")
    second = shelf.take()
    path = shelf.root / first["objects"][1]["key"]
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.unlink()
    if harm != "gone":
        path.write_bytes(data if harm == "flipped" else data[:-6])
    with pytest.raises(StepError):
        next(unreferenced(shelf.store, shelf.prefix, [second, first]))


def test_what_is_no_content_is_left_alone(shelf: Shelf, tmp_path: Path) -> None:
    put(tmp_path, "a", "a")
    shelf.take()
    shelf.store.put(f"{shelf.prefix}files/readme.txt", [b"somebody's"])
    assert all("readme" not in key for key in unreferenced(shelf.store, shelf.prefix, []))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_deleted_in_whatever_order_the_kept_ones_restore(shelf: Shelf, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    kept, number = [], 0
    for _ in range(8):
        for name in "abcd":
            if chance.random() < 0.5:
                put(tmp_path, name, str(chance.randrange(6)))
        kept.append(shelf.take())
        if chance.random() < 0.5:
            kept.remove(chance.choice(kept[:-1] or kept))
            shelf.manifests[:] = kept[:]
            shelf.store.delete(list(unreferenced(shelf.store, shelf.prefix, kept)))
        for manifest in kept:
            number += 1
            restore_files(manifest, shelf.store, shelf.sealer, tmp_path / str(number), shelf.hand)


def test_a_listing_out_of_order_is_refused() -> None:
    digests = Digests()
    digests.append("bb" * 32, 1)
    assert (digests.find("bb" * 32), digests.find("aa" * 32), digests.find("cc" * 32)) == (0, None, None)
    with pytest.raises(StepError, match="in order"):
        digests.append("aa" * 32, 1)
