"""Versions and Object Lock: what is locked stays, and says until when; what is not goes with all its versions."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from backups.storage.s3 import NEVER, S3Store
from backups.storage.s3_bucket import Bucket
from backups.storage.s3_upload import PART_BYTES
from controlplane.operations.errors import StepError
from environments.aws import Account, s3
from tests.backups.wire import DROPPED, OwnBucket

pytest_plugins = ["tests.backups.stores"]


def versions(locking: OwnBucket) -> list[str]:
    """Of all keys, delete markers too."""
    found = locking.client.list_object_versions(Bucket=locking.name)
    return [one["Key"] for one in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]]


def test_each_version_can_be_read(locking: OwnBucket) -> None:
    store = locking.store()
    old, new = store.put("a", [b"old"]), store.put("a", [b"new"])
    assert old.version and new.version and old.version != new.version
    for version, content in ((old.version, b"old"), (new.version, b"new"), ("", b"new")):
        with store.open("a", version=version) as file:
            assert file.read() == content
    with pytest.raises(StepError, match=r"a is not in bucket|NoSuchVersion"), store.open("a", version="0" * 32):
        pass


def test_deletion_leaves_no_version(locking: OwnBucket) -> None:
    store = locking.store()
    for _ in range(3):
        store.put("a", [b"x"])
    locking.client.delete_object(Bucket=locking.name, Key="a")  # by hand: only a marker is added
    store.put("a/1", [b"longer"])
    store.put("ab", [b"longer"])
    assert store.head("a") is None
    assert store.delete(["a", "never"]) == 2
    assert sorted(versions(locking)) == ["a/1", "ab"]


@pytest.mark.parametrize("size", [10, PART_BYTES + 1], ids=["small", "in parts"])
@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE"])
def test_a_locked_object_stays(locking: OwnBucket, size: int, mode: str) -> None:
    store = locking.store(object_lock_days=30, object_lock_mode=mode)
    stored = store.put("a", [os.urandom(size)])
    until = store.locked_until("a")
    assert until is not None and abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    found = locking.client.head_object(Bucket=locking.name, Key="a", VersionId=stored.version)
    assert found["ObjectLockMode"] == mode
    with pytest.raises(StepError) as raised:
        store.delete(["a"])
    assert str(raised.value) == f"a cannot be deleted: Object Lock holds it until {until:%Y-%m-%d %H:%M} UTC."
    assert raised.value.permanent
    assert versions(locking) == ["a"]


def test_a_legal_hold(locking: OwnBucket) -> None:
    store = locking.store()
    store.put("a", [b"x"])
    assert store.locked_until("a") is None
    locking.client.put_object_legal_hold(Bucket=locking.name, Key="a", LegalHold={"Status": "ON"})
    assert store.locked_until("a") == NEVER
    with pytest.raises(StepError, match="Object Lock holds it until somebody lifts its legal hold"):
        store.delete(["a"])


def test_what_is_not_locked_in_the_end_does_not_pass_for_it(locking: OwnBucket) -> None:
    locking.proxy.will("PutObjectRetention", DROPPED)  # which follows, as moto forgets the lock of uploads in parts
    with pytest.raises(StepError, match="a is not locked after it was written") as raised:
        locking.store(object_lock_days=1).put("a", [bytes(PART_BYTES + 1)])
    assert raised.value.permanent and versions(locking) == []


@pytest.mark.parametrize("size", [10, 2 * PART_BYTES + 1], ids=["small", "in parts"])
def test_checksums_as_aws_wants_them(locking: OwnBucket, size: int) -> None:
    account = Account("us-east-1", locking.proxy.url, "env:TEST_S3_ACCESS_KEY", "env:TEST_S3_SECRET_KEY")
    store = S3Store(Bucket(s3(account, 1, path_style=True, checksums=True), locking.name, lock_days=1))
    data = os.urandom(size)
    store.put("a", [data])
    with store.open("a") as file:
        assert file.read() == data
    kept = locking.client.head_object(Bucket=locking.name, Key="a", ChecksumMode="ENABLED")
    assert store.locked_until("a") is not None
    if size < PART_BYTES:
        assert kept["ChecksumCRC32"]
