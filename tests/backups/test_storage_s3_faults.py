"""Whatever a server or the way to it does to an upload or a download: whole or nothing, no part left, and words."""

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator

import pytest

from backups.storage.s3_upload import PART_BYTES
from controlplane.operations.errors import LeaseLost, StepError
from tests.backups.wire import (
    BROKEN,
    DENIED,
    DROPPED,
    GARBLED,
    LOST_AFTER,
    LOST_BEFORE,
    PASSED,
    SILENT,
    SLOW_DOWN,
    Fault,
    OwnBucket,
)  # fmt: skip

pytest_plugins = ["tests.backups.stores"]

MB = 1024 * 1024
DATA = os.urandom(20 * MB)  # three parts
SMALL = DATA[:1000]


def chunks() -> Iterator[bytes]:
    for start in range(0, len(DATA), 900_001):
        yield DATA[start : start + 900_001]


def nothing_is_left(bucket: OwnBucket) -> bool:
    return bucket.keys() == [] and bucket.uploads() == []


FAULTS = {
    "slow down": (SLOW_DOWN, False, "S3 slows us down (SlowDown)"),
    "broken": (BROKEN, False, "S3 has trouble of its own (500 InternalError)"),
    "lost before": (LOST_BEFORE, False, "No answer to"),
    "silent": (SILENT, False, "No answer to"),
    "denied": (DENIED, True, "S3 does not allow s3:"),
}


class TestUpload:
    """What goes wrong on the way there."""

    @pytest.mark.parametrize(("fault", "permanent", "words"), FAULTS.values(), ids=FAULTS)
    @pytest.mark.parametrize("action", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"])
    def test_a_refusal(self, bucket: OwnBucket, action: str, fault: Fault, permanent: bool, words: str) -> None:
        bucket.proxy.will(action, fault)
        # Where nobody answers it waits for it; anywhere else a busy machine shall be in time.
        patience = 2 if fault is SILENT else 20
        with pytest.raises(StepError) as raised:
            bucket.store(answer_seconds=patience).put("a", [SMALL] if action == "PutObject" else chunks())
        assert words in str(raised.value) and f"s3:{action}" in str(raised.value)
        assert raised.value.permanent is permanent
        assert nothing_is_left(bucket)

    @pytest.mark.parametrize("fault", [SLOW_DOWN, BROKEN, LOST_BEFORE, LOST_AFTER], ids=["slow", "500", "lost", "late"])
    @pytest.mark.parametrize("action", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"])
    def test_once_is_no_harm(self, bucket: OwnBucket, action: str, fault: Fault) -> None:
        bucket.proxy.will(action, fault)
        data = SMALL if action == "PutObject" else DATA
        stored = bucket.store(attempts=2).put("a", [data])
        assert stored.sha256 == hashlib.sha256(data).hexdigest()
        assert bucket.client.get_object(Bucket=bucket.name, Key="a")["Body"].read() == data
        assert bucket.keys() == ["a"] and bucket.uploads() == []

    @pytest.mark.parametrize("action", ["CompleteMultipartUpload", "PutObject"])
    def test_it_was_taken_but_nobody_heard_of_it(self, bucket: OwnBucket, action: str) -> None:
        bucket.proxy.will(action, LOST_AFTER)
        data = SMALL if action == "PutObject" else DATA
        assert bucket.store().put("a", [data]).size == len(data)
        assert bucket.keys() == ["a"] and bucket.uploads() == []

    def test_an_upload_that_was_begun_but_nobody_heard_of_it(self, bucket: OwnBucket) -> None:
        bucket.proxy.will("CreateMultipartUpload", LOST_AFTER)
        with pytest.raises(StepError, match="No answer to s3:CreateMultipartUpload"):
            bucket.store().put("a", chunks())
        assert nothing_is_left(bucket)

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_a_lost_part(self, bucket: OwnBucket, number: int) -> None:
        # One that is seen to be lost is sent once more, perhaps after the next part.
        bucket.proxy.will("UploadPart", *[PASSED] * (number - 1), *[DROPPED] * 3)
        with pytest.raises(StepError) as raised:
            bucket.store().put("a", chunks())
        assert not raised.value.permanent and re.search("InvalidPart|arrived changed", str(raised.value))
        assert nothing_is_left(bucket)

    def test_a_storage_that_holds_less_than_was_sent(self, bucket: OwnBucket) -> None:
        def less() -> None:
            bucket.client.put_object(Bucket=bucket.name, Key="a", Body=SMALL[:-1])

        bucket.proxy.will("HeadObject", Fault(before=less, passes=True))
        with pytest.raises(StepError, match=r"a has 999 bytes in bucket .*, but 1000 were sent. It was removed"):
            bucket.store().put("a", [SMALL])
        assert nothing_is_left(bucket)

    @pytest.mark.parametrize("action", ["UploadPart", "PutObject"])
    def test_a_byte_that_changes_on_the_way(self, bucket: OwnBucket, action: str) -> None:
        bucket.proxy.will(action, GARBLED)
        with pytest.raises(StepError, match=r"is not what was sent \(BadDigest\)") as raised:
            bucket.store().put("a", [SMALL] if action == "PutObject" else chunks())
        assert not raised.value.permanent and nothing_is_left(bucket)

    def test_a_byte_that_changes_when_the_server_is_known_to_tell_what_came(self, locking: OwnBucket) -> None:
        """From then on it is not asked to compare, its answer is compared instead; the part is sent once more."""
        locking.proxy.will("UploadPart", PASSED, PASSED, PASSED, GARBLED)
        data = os.urandom(4 * PART_BYTES)
        assert locking.store().put("a", [data]).size == len(data)
        assert locking.proxy.asked["UploadPart"] == 5
        assert locking.client.get_object(Bucket=locking.name, Key="a")["Body"].read() == data

    @pytest.mark.parametrize("again", [GARBLED, DROPPED, PASSED], ids=["garbled", "dropped", "refused"])
    def test_a_part_that_changes_again(self, bucket: OwnBucket, again: Fault) -> None:
        """Or that the server takes once only, as rclone does."""
        bucket.proxy.will("UploadPart", PASSED, PASSED, PASSED, GARBLED, again)
        with pytest.raises(StepError, match=r"part [34] of a arrived changed") as raised:
            bucket.store().put("a", [bytes(4 * PART_BYTES)])
        assert bucket.proxy.asked["UploadPart"] == 5
        assert not raised.value.permanent and nothing_is_left(bucket)

    @pytest.mark.parametrize("days", [0, 1])
    def test_with_a_lock_the_server_is_asked_to_compare_each_part(self, locking: OwnBucket, days: int) -> None:
        """S3 takes no part into a bucket with Object Lock otherwise."""
        store = locking.store(**({"object_lock_days": days} if days else {}))
        seen: list[bool] = []
        watch = store.bucket.client.meta.events.register
        watch("before-send.s3.UploadPart", lambda request, **_: seen.append("Content-MD5" in request.headers))
        store.put("a", [bytes(6 * PART_BYTES)])
        assert len(seen) == 6 and all(seen) == bool(days)

    @pytest.mark.parametrize("error", [StepError("pg_dump was killed"), LeaseLost("gone"), KeyboardInterrupt()])
    @pytest.mark.parametrize("after", [0, 5, 12])
    def test_an_error_of_the_source(self, bucket: OwnBucket, error: BaseException, after: int) -> None:
        def broken() -> Iterator[bytes]:
            for number, chunk in enumerate(chunks()):
                if number == after:
                    raise error
                yield chunk

        with pytest.raises(type(error)) as raised:
            bucket.store().put("a", broken())
        assert raised.value is error
        assert nothing_is_left(bucket)

    @pytest.mark.parametrize("allowed", range(5))
    def test_a_lost_lease(self, bucket: OwnBucket, allowed: int) -> None:
        left = iter(range(allowed))  # to begin, for each of three parts, to complete

        def check() -> None:
            if next(left, None) is None:
                raise LeaseLost

        with pytest.raises(LeaseLost):
            bucket.store().put("a", chunks(), check=check)
        assert bucket.proxy.asked["UploadPart"] == max(0, allowed - 1)
        assert bucket.proxy.asked["CompleteMultipartUpload"] == 0
        assert nothing_is_left(bucket)

    @pytest.mark.parametrize("action", ["UploadPart", "CompleteMultipartUpload"])
    def test_a_frozen_writer_does_not_come_back(self, bucket: OwnBucket, action: str) -> None:
        def another() -> None:
            assert bucket.store().abandon("") == 1
            bucket.client.put_object(Bucket=bucket.name, Key="a", Body=b"of the other worker")

        bucket.proxy.will(action, Fault(before=another, passes=True))
        with pytest.raises(
            # rclone hangs up in the middle of a part that it does not want.
            StepError,
            match=r"is not there any more. Another worker, or a rule of the bucket, aborted it|No answer to s3:Upload",
        ):
            bucket.store().put("a", chunks())
        assert bucket.client.get_object(Bucket=bucket.name, Key="a")["Body"].read() == b"of the other worker"
        assert bucket.uploads() == []

    def test_what_cannot_be_aborted_is_abandoned_later(self, bucket: OwnBucket) -> None:
        bucket.proxy.will("UploadPart", BROKEN)
        bucket.proxy.will("AbortMultipartUpload", BROKEN)
        with pytest.raises(StepError, match="s3:UploadPart"):
            bucket.store().put("a", chunks())
        assert bucket.uploads() == ["a"]
        assert bucket.store().abandon("a") == 1 and nothing_is_left(bucket)


class TestDownload:
    """What goes wrong on the way back."""

    @pytest.fixture
    def read(self, bucket: OwnBucket) -> Callable[[], bytes]:
        """Reads an object of 20 MB."""
        bucket.client.put_object(Bucket=bucket.name, Key="a", Body=DATA)

        def read() -> bytes:
            with bucket.store(answer_seconds=0.5).open("a") as file:
                return b"".join(iter(lambda: file.read(300_000), b""))

        return read

    def test_a_connection_that_is_lost_is_taken_up(self, bucket: OwnBucket, read: Callable[[], bytes]) -> None:
        bucket.proxy.will("GetObject", *[Fault(cut=cut) for cut in (0, 100, 3 * MB, 1)])
        assert read() == DATA
        assert bucket.proxy.asked["GetObject"] == 5

    def test_far_more_losses_are_taken_when_it_goes_on_between_them(
        self, bucket: OwnBucket, read: Callable[[], bytes]
    ) -> None:
        bucket.proxy.will("GetObject", *[Fault(cut=1)] * 5, Fault(cut=9 * MB), *[Fault(cut=1)] * 4)
        assert read() == DATA

    def test_but_not_for_ever(self, bucket: OwnBucket, read: Callable[[], bytes]) -> None:
        bucket.proxy.will("GetObject", *[Fault(cut=1000)] * 10)
        with pytest.raises(
            StepError, match="the connection was lost again and again at byte 6000 of 20971520"
        ) as raised:
            read()
        assert not raised.value.permanent

    def test_it_does_not_answer_at_all(self, bucket: OwnBucket, read: Callable[[], bytes]) -> None:
        bucket.proxy.will("GetObject", SILENT)
        with pytest.raises(StepError, match="No answer to s3:GetObject on a in bucket"):
            read()

    def test_it_is_replaced_on_the_way(self, bucket: OwnBucket, read: Callable[[], bytes]) -> None:
        def replace() -> None:
            bucket.client.put_object(Bucket=bucket.name, Key="a", Body=b"x" * 6 * MB)

        bucket.proxy.will("GetObject", Fault(cut=5 * MB), Fault(before=replace, passes=True))
        with pytest.raises(StepError, match=r"was replaced while it was read. Begin again"):
            read()

    def test_it_is_deleted_on_the_way(self, bucket: OwnBucket, read: Callable[[], bytes]) -> None:
        bucket.proxy.will(
            "GetObject", Fault(cut=5 * MB), Fault(before=lambda: bucket.store().delete(["a"]), passes=True)
        )
        with pytest.raises(StepError, match="a is not in bucket"):
            read()

    def test_reading_may_end_early(self, bucket: OwnBucket, read: Callable[[], bytes]) -> None:
        with bucket.store().open("a") as file:
            assert file.read(10) == DATA[:10]


@pytest.mark.parametrize("action", ["ListObjects", "HeadObject", "DeleteObjects", "ListMultipartUploads"])
@pytest.mark.parametrize("fault", [SLOW_DOWN, BROKEN, LOST_BEFORE], ids=["slow", "500", "lost"])
def test_everything_else_may_fail_too(bucket: OwnBucket, action: str, fault: Fault) -> None:
    store = bucket.store()
    bucket.proxy.will(action, fault)
    ask: dict[str, Callable[[], object]] = {
        "ListObjects": lambda: list(store.list("")),
        "HeadObject": lambda: store.head("a"),
        "DeleteObjects": lambda: store.delete(["a"]),
        "ListMultipartUploads": lambda: store.abandon(""),
    }
    with pytest.raises(StepError) as raised:
        ask[action]()
    assert not raised.value.permanent
    ask[action]()


REFUSALS = {
    "another region": (301, "PermanentRedirect", "The bucket is in another region (PermanentRedirect)"),
    "expired": (400, "ExpiredToken", "The S3 credentials have expired."),
    "wrong clock": (403, "RequestTimeTooSkewed", "S3 refuses the time of our signature: so it is."),
    "denied": (403, "AccessDenied", "S3 does not allow s3:PutObject on a in bucket"),
    "anything else": (409, "InvalidBucketState", "S3 refuses s3:PutObject on a in bucket"),
}


@pytest.mark.parametrize(("status", "code", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_for_good(bucket: OwnBucket, status: int, code: str, words: str) -> None:
    bucket.proxy.will("PutObject", Fault(status=status, code=code))
    with pytest.raises(StepError) as raised:
        bucket.store().put("a", [SMALL])
    assert str(raised.value).startswith(words) and raised.value.permanent
    assert nothing_is_left(bucket)


def test_a_listing_that_is_denied_is_what_is_said_of_a_head(bucket: OwnBucket) -> None:
    bucket.proxy.will("HeadObject", DENIED)
    bucket.proxy.will("ListObjects", DENIED)
    with pytest.raises(StepError, match="S3 does not allow s3:ListBucket on bucket") as raised:
        bucket.store().head("a")
    assert raised.value.permanent


def test_nobody_listens(bucket: OwnBucket) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    store = bucket.store(endpoint_url=url)
    assert store.problem().startswith("S3 cannot be reached for s3:ListBucket on bucket")
    with pytest.raises(StepError, match="S3 cannot be reached for s3:PutObject") as raised:
        store.put("a", [SMALL])
    assert not raised.value.permanent
