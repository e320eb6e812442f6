"""A bucket as storage, at the wire: objects as they were sent, in parts, listed, deleted; what can be configured."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backups.models import Storage
from backups.storage import STORES, open_store
from backups.storage.s3_upload import PART_BYTES, part_bytes
from controlplane.operations.errors import StepError
from tests.backups.wire import ACCESS_KEY, SECRET_KEY, OwnBucket

pytest_plugins = ["tests.backups.stores"]

MB = 1024 * 1024


def pieces(size: int) -> Iterator[bytes]:
    """A stream whose pieces do not end where parts do."""
    block = os.urandom(700_001)
    for start in range(0, size, len(block)):
        yield block[: size - start]


@pytest.mark.parametrize(
    ("size", "parts"),
    [(0, 0), (5, 0), (PART_BYTES - 1, 0), (PART_BYTES, 1), (PART_BYTES + 1, 2), (3 * PART_BYTES, 3), (30 * MB, 6)],
)
def test_there_and_back(bucket: OwnBucket, size: int, parts: int) -> None:
    store = open_store(Storage(slug="s3", kind="s3", settings={**bucket.settings, "bucket": bucket.name}))
    data = b"".join(pieces(size))
    stored = store.put("production/main/1/dump", pieces_of(data))
    assert (stored.size, stored.version) == (size, "")
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert bucket.proxy.asked["UploadPart"] == parts and bucket.uploads() == []
    with store.open(stored.key) as file:
        assert file.read(3) + file.read() == data
    entry = store.head(stored.key)
    assert entry is not None and entry.size == size
    assert entry.checksum == hashlib.md5(data).hexdigest()
    assert abs(entry.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert store.locked_until(stored.key) is None


def pieces_of(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 900_001):
        yield data[start : start + 900_001]


def test_one_chunk_may_be_larger_than_parts(bucket: OwnBucket) -> None:
    data = os.urandom(20 * MB)
    assert bucket.store().put("a", [data]).sha256 == hashlib.sha256(data).hexdigest()
    with bucket.store().open("a") as file:
        assert file.read() == data


def test_5_tb_fit_into_10000_parts() -> None:
    sizes = [part_bytes(number) for number in range(1, 10_001)]
    assert sum(sizes) >= 5 * 1024**4 and max(sizes) <= 5 * 1024**3
    assert sum(size for size in sizes if size == PART_BYTES) > 8 * 1000**3


def test_a_prefix_is_not_seen_from_outside(bucket: OwnBucket) -> None:
    store = bucket.store(prefix="/company/backups/")
    store.put("a/1", [b"x"])
    assert bucket.keys() == ["company/backups/a/1"]
    assert [entry.key for entry in store.list("a")] == ["a/1"] and store.head("a/1") is not None
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key="company/backups/a/2")
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key="a/2")
    assert store.abandon("a/") == 1 and bucket.uploads() == ["a/2"]
    assert store.delete(["a/1"]) == 1 and bucket.keys() == []


def test_a_listing_is_in_the_order_of_keys(bucket: OwnBucket) -> None:
    store = bucket.store()
    keys = ["a/1", "a-b", "a.b/c", "a/2/x", "a0", "b"]
    for key in keys:
        store.put(key, [key.encode()])
    assert [(entry.key, entry.size) for entry in store.list("")] == [(key, len(key)) for key in sorted(keys)]
    assert [entry.key for entry in store.list("a/")] == ["a/1", "a/2/x"]
    assert list(store.list("c")) == []


def test_deletion_goes_by_thousands(bucket: OwnBucket) -> None:
    store = bucket.store()
    for key in ("a/1", "a/2", "b"):
        store.put(key, [b"x"])
    assert store.delete([*(f"never/{number}" for number in range(1500)), "a/1", "b"]) == 1502
    assert bucket.keys() == ["a/2"] and bucket.proxy.asked["DeleteObjects"] == 2


def test_what_was_begun_and_left_is_abandoned(bucket: OwnBucket) -> None:
    for key in ("a/1", "a/2", "b/1"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    assert bucket.store().abandon("a/") == 2
    assert bucket.uploads() == ["b/1"]


def test_nothing_is_there(bucket: OwnBucket) -> None:
    store = bucket.store()
    assert store.abandon("") == 0 and store.head("a") is None and store.locked_until("a") is None
    with pytest.raises(StepError, match="a is not in bucket") as raised, store.open("a"):
        pass
    assert raised.value.permanent


@pytest.mark.parametrize("key", ["", "/a", "a/../b", "a//b", ".hidden"])
def test_keys_that_lead_away(bucket: OwnBucket, key: str) -> None:
    for action in (
        bucket.store().head,
        lambda key: bucket.store().put(key, []),
        lambda key: bucket.store().delete([key]),
    ):
        with pytest.raises(StepError, match="cannot be the name of an object"):
            action(key)


MEMORY = """
import os, resource, sys
import django
django.setup()
from backups.storage.s3 import S3Kind
store = S3Kind().open({"endpoint_url": sys.argv[1], "bucket": sys.argv[2],
                       "access_key": "env:TEST_S3_ACCESS_KEY", "secret_key": "env:TEST_S3_SECRET_KEY"})
block = os.urandom(1 << 20)
def peak(count):
    store.put("a", (bytes(block) for _ in range(count)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(*[peak(count) for count in (1, 50, 200)])
"""


def test_memory_is_three_parts(bucket: OwnBucket) -> None:
    url = f"http://127.0.0.1:{bucket.proxy.port}"
    command = [sys.executable, "-c", MEMORY, url, bucket.name]
    small, middle, large = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(large) - int(small) < 45_000  # KB, for 200 MB
    assert int(large) - int(middle) < 9_000


GOOD = {"bucket": "b", "region": "eu-west-1"}


class TestSettings:
    """What a storage in the configuration file may say."""

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"prefix": "a/b/", "access_key": "env:A", "secret_key": "file:b"},
            {"endpoint_url": "http://127.0.0.1:9000", "path_style": False},
            {"object_lock_days": 30, "object_lock_mode": "GOVERNANCE", "answer_seconds": 0.5, "attempts": 3},
        ],
    )
    def test_good(self, more: dict[str, Any]) -> None:
        assert STORES["s3"].check_settings({**GOOD, **more}) == {}

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"bucket": ""}, {"bucket": "has to be the name of a bucket"}),
            ({"buckets": "b"}, {"buckets": "is not a setting of S3"}),
            ({"prefix": "a/../b"}, {"prefix": "must have no empty part, and none that begins with a dot"}),
            (
                {"endpoint_url": "http://169.254.169.254"},
                {"endpoint_url": "points to a link-local or metadata address"},
            ),
            ({"access_key": "env:A"}, {"secret_key": "has to be given together with access_key"}),
            (
                {"access_key": ACCESS_KEY, "secret_key": "env:B"},
                {"access_key": 'is no secret reference; write "file:PATH", "env:NAME" or "aws:NAME"'},
            ),
            ({"object_lock_days": 0}, {"object_lock_days": "has to be a whole number from 1 to 36500"}),
            ({"object_lock_mode": "compliance"}, {"object_lock_mode": "has to be COMPLIANCE or GOVERNANCE"}),
            ({"path_style": "yes"}, {"path_style": "has to be true or false"}),
            ({"answer_seconds": 0}, {"answer_seconds": "has to be a number of seconds"}),
            ({"attempts": True}, {"attempts": "has to be a whole number from 1 to 10"}),
        ],
    )
    def test_wrong(self, more: dict[str, Any], words: dict[str, str]) -> None:
        assert STORES["s3"].check_settings({**GOOD, **more}) == words

    def test_missing(self) -> None:
        assert set(STORES["s3"].check_settings({})) == {"bucket", "region"}
        with pytest.raises(StepError, match="The storage's setting bucket has to be"):
            STORES["s3"].open({"region": "eu-west-1"})


class TestProblem:
    """What stands in the way of a backup is said before it begins."""

    def test_nothing(self, bucket: OwnBucket) -> None:
        assert bucket.store().problem() == ""
        assert bucket.keys() == [] and bucket.uploads() == []

    def test_no_bucket(self, bucket: OwnBucket) -> None:
        store = bucket.store(bucket="never-made")
        assert store.problem() == (
            "There is no such bucket for s3:ListBucket on bucket never-made. "
            "Make it, or check bucket, region and endpoint_url in the storage's settings."
        )
        for action in (
            lambda: store.put("a", [b"x"]), lambda: store.head("a"), lambda: list(store.list("")),
            lambda: store.put("a", pieces(9 * MB)), lambda: store.abandon(""), lambda: store.open("a").__enter__(),
        ):  # fmt: skip
            with pytest.raises(StepError, match="There is no such bucket") as raised:
                action()
            assert raised.value.permanent

    @pytest.mark.parametrize(
        ("access", "secret", "code"),
        [(ACCESS_KEY, "wrong-secret-key", "SignatureDoesNotMatch"), ("AKIAWRONG", SECRET_KEY, "InvalidAccessKeyId")],
    )
    def test_wrong_credentials(
        self, bucket: OwnBucket, monkeypatch: pytest.MonkeyPatch, access: str, secret: str, code: str
    ) -> None:
        monkeypatch.setenv("TEST_S3_ACCESS_KEY", access)
        monkeypatch.setenv("TEST_S3_SECRET_KEY", secret)
        store = bucket.store()
        words = f"S3 does not know these credentials ({code}). Check access_key and secret_key."
        assert store.problem() == words
        for action in (lambda: store.put("a", pieces(9 * MB)), lambda: store.head("a")):
            with pytest.raises(StepError) as raised:
                action()
            assert str(raised.value) == words and raised.value.permanent

    def test_no_object_lock(self, bucket: OwnBucket, locking: OwnBucket) -> None:
        assert "has no Object Lock, so object_lock_days cannot be kept" in bucket.store(object_lock_days=1).problem()
        assert locking.store(object_lock_days=1).problem() == ""
        assert locking.uploads() == [] and locking.keys() == []
