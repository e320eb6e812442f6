"""Uploads that are in a bucket: an object that shows the same ETag is not read again, whatever it is called."""

from pathlib import Path

import pytest

from backups.engines.file_index import read_index
from backups.engines.uploads import UploadsEngine
from backups.restoring_files import restore_files
from controlplane.operations.errors import StepError
from tests.backups.files import Shelf
from tests.backups.wire import DENIED, OwnBucket

pytest_plugins = ["tests.backups.stores"]


@pytest.fixture
def shelf(bucket: OwnBucket, tmp_path: Path) -> Shelf:
    settings = {"source": {**bucket.settings, "bucket": bucket.name, "prefix": "up"}}
    return Shelf(UploadsEngine(), "uploads", settings, tmp_path / "storage")


def put(bucket: OwnBucket, key: str, data: bytes) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=f"up/{key}", Body=data)


def test_only_what_changed_is_read(shelf: Shelf, bucket: OwnBucket, tmp_path: Path) -> None:
    put(bucket, "a.png", b"a")
    put(bucket, "b/c.png", b"c" * 5_000_000)
    put(bucket, ".hidden", b"h")
    bucket.client.put_object(Bucket=bucket.name, Key="elsewhere", Body=b"not ours")
    shelf.take()
    names = [one.name for one in read_index(shelf.store, shelf.manifests[0], shelf.sealer)]
    assert names == [b".hidden", b"a.png", b"b/c.png"]
    bucket.proxy.asked.clear()
    put(bucket, "a.png", b"A")
    bucket.client.delete_object(Bucket=bucket.name, Key="up/.hidden")
    facts = shelf.take()["facts"]
    assert (facts["new_files"], facts["reused"], facts["deleted"]) == (1, 1, 1)
    assert bucket.proxy.asked["GetObject"] == 1
    restore_files(shelf.manifests[-1], shelf.store, shelf.sealer, tmp_path / "target", shelf.hand)
    assert (tmp_path / "target/b/c.png").read_bytes() == b"c" * 5_000_000
    assert (tmp_path / "target/a.png").read_bytes() == b"A"


def test_a_refusal_fails_the_backup_in_words(shelf: Shelf, bucket: OwnBucket) -> None:
    put(bucket, "a.png", b"a")
    bucket.proxy.will("GetObject", DENIED)
    with pytest.raises(StepError, match="GetObject") as raised:
        shelf.take()
    assert raised.value.permanent
    assert shelf.keys("2026") == []


def test_a_bucket_that_is_not_there_is_said_at_the_look(shelf: Shelf) -> None:
    shelf.settings["source"]["bucket"] = "there-is-none"
    with pytest.raises(StepError, match="no such bucket"):
        UploadsEngine().look(shelf.job(), shelf.hand)
