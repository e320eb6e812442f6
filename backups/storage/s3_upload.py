"""Writing one object to a bucket from a stream: in parts that are sent while the next is read.

1. What fits into one part is put at once. Anything larger becomes a multipart upload: at most AT_ONCE parts are under
   way while one more is filled, so three parts are the memory it takes.
2. Whatever fails, the parts under way are waited for and the upload is aborted, again if a part arrives late.
3. An answer that was lost is looked for: each upload carries a token in the object's metadata. So "it was completed,
   but nobody heard of it" ends well, and a writer that was frozen while another one abandoned its upload does not
   take the other's object for its own.
4. In the end the storage is asked for the size (and the lock) of what it holds.
5. Where others write under the same key, too, nothing is removed or aborted that this upload did not begin itself: what
   is found there may be theirs. Whoever goes on after a killed worker has to be told what it had begun, by `begun`.
"""

import base64
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http import HTTPStatus
from itertools import chain
from typing import Any

from botocore.exceptions import ClientError

from backups.storage.base import Stored
from backups.storage.s3_bucket import Bucket, code_of
from controlplane.operations.errors import StepError

PART_BYTES = 5 * 1024 * 1024  # S3 takes none that is smaller, but for the last
# S3 takes 10,000 parts and 5 TB: up to 10 GB all parts are small, then each is a little larger than the one before.
EQUAL_PARTS, GROWTH = 2000, 1.00085
AT_ONCE = 2
ABORTS = 3
TOKEN = "controlplane-upload"  # noqa: S105 -- the name of a metadata field

Part = dict[str, Any]


def part_bytes(number: int) -> int:
    """The size of the part with this number, counted from 1."""
    return int(PART_BYTES * GROWTH ** max(0, number - EQUAL_PARTS))


class Upload:
    """One object on its way. check: see `base.Store.put`.

    ours: nobody else writes under the key. begun: told the id of an upload in parts before the first of them is sent.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        check: Callable[[], None],
        *,
        ours: bool = True,
        begun: Callable[[str], None] = lambda upload: None,
    ) -> None:
        self._bucket, self._client, self._key, self._check = bucket, bucket.client, key, check
        self._ours, self._begun = ours, begun
        self._token = secrets.token_hex(16)
        self._size = 0
        self._digest = hashlib.sha256()
        self._tells_md5 = False

    def run(self, chunks: Iterable[bytes]) -> Stored:
        """All of it. Raises StepError, and whatever `chunks` or `check` raise."""
        parts = self._parts(chunks)
        first = next(parts, bytearray())
        if len(first) < PART_BYTES:
            version = self._put(first)
        else:
            version = self._put_in_parts(chain([first], parts))
        self._confirm(version)
        return Stored(self._key, self._size, self._digest.hexdigest(), version)

    def _parts(self, chunks: Iterable[bytes]) -> Iterator[bytearray]:
        """The stream, cut; all but the last are full."""
        part, number = bytearray(), 1
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                room = part_bytes(number) - len(part)
                part += rest[:room]
                rest = rest[room:]
                if len(part) == part_bytes(number):
                    self._count(part)
                    yield part
                    part, number = bytearray(), number + 1
        if part:
            self._count(part)
            yield part

    def _count(self, part: bytearray) -> None:
        self._size += len(part)
        self._digest.update(part)

    # --- one request --------------------------------------------------------------------------------

    def _put(self, content: Any) -> str:
        """Returns the version."""
        self._check()
        try:
            with self._bucket.words("PutObject", self._key):
                answer = self._client.put_object(
                    **self._bucket.at(self._key), Body=content, **self._guard(content), **self._about()
                )
        except StepError as error:
            return self._version_all_the_same(error)
        return _version(answer)

    def _about(self) -> dict[str, Any]:
        return {"Metadata": {TOKEN: self._token}, **self._bucket.lock()}

    def _guard(self, content: bytearray) -> dict[str, Any]:
        """boto3 adds a checksum where the server knows CRC32; not all others look at what the signature covers."""
        if self._bucket.checksums:
            return {}
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        return {"ContentMD5": base64.b64encode(digest).decode()}

    # --- in parts -----------------------------------------------------------------------------------

    def _put_in_parts(self, parts: Iterable[bytearray]) -> str:
        """Returns the version."""
        self._check()
        upload = self._begin()
        try:
            self._begun(upload)
            sent = self._send_all(upload, parts)
            self._check()
            return self._complete(upload, sent)
        except BaseException:
            self._abort(upload)
            raise

    def _begin(self) -> str:
        algorithm: dict[str, Any] = {"ChecksumAlgorithm": "CRC32"} if self._bucket.checksums else {}
        try:
            with self._bucket.words("CreateMultipartUpload", self._key):
                begun: dict[str, Any] = dict(
                    self._client.create_multipart_upload(**self._bucket.at(self._key), **algorithm, **self._about())
                )
        except StepError:
            self._abort_those_nobody_knows(known="")
            raise
        upload = str(begun["UploadId"])
        if begun["ResponseMetadata"]["RetryAttempts"]:
            self._abort_those_nobody_knows(known=upload)
        return upload

    def _abort_those_nobody_knows(self, known: str) -> None:
        """An answer that was lost may have begun an upload all the same: without a part, so it may stay if need be."""
        if not self._ours:
            return
        self._check()
        with suppress(StepError):
            for key, upload in uploads(self._bucket, self._key):
                if key == self._key and upload != known:
                    abort(self._bucket, key, upload)

    def _send_all(self, upload: str, parts: Iterable[bytearray]) -> list[Part]:
        sent: list[Part] = []
        waiting: deque[Future[Part]] = deque()
        # Leaving the pool waits for what is under way: S3 may keep a part that arrives after the upload was aborted.
        with ThreadPoolExecutor(AT_ONCE, "upload") as pool:
            try:
                for number, part in enumerate(parts, 1):
                    if len(waiting) == AT_ONCE:
                        sent.append(waiting.popleft().result())
                    self._check()
                    waiting.append(pool.submit(self._send, upload, number, part))
                sent.extend(future.result() for future in waiting)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return sent

    def _send(self, upload: str, number: int, part: Any) -> Part:
        # A server that tells the MD5 of what came is not asked to compare it: that is done here, for half the work. But
        # S3 wants to be asked where there is Object Lock.
        guard = {} if self._tells_md5 and not self._bucket.lock_days else self._guard(part)
        sent, arrived = self._send_once(upload, number, part, guard)
        if not arrived:
            self._check()
            with suppress(StepError):  # it takes the place of the other, but not every server lets it
                sent, arrived = self._send_once(upload, number, part, self._guard(part))
        if not arrived:
            raise StepError(f"part {number} of {self._key} arrived changed at bucket {self._bucket.name}. Try again.")
        return sent

    def _send_once(self, upload: str, number: int, part: Any, guard: dict[str, Any]) -> tuple[Part, bool]:
        """The part as S3 names it, and whether it arrived as it was sent, as far as the answer tells."""
        what = f"part {number} of {self._key}"
        with self._words("UploadPart", what):
            answer: dict[str, Any] = dict(
                self._client.upload_part(
                    **self._bucket.at(self._key), UploadId=upload, PartNumber=number, Body=part, **guard
                )
            )
        if not answer.get("ETag"):
            raise StepError(f"The answer to {what} has no ETag: it is not from S3.")
        arrived = self._bucket.checksums or self._compare(answer["ETag"].strip('"'), part)
        checksum = {"ChecksumCRC32": answer["ChecksumCRC32"]} if answer.get("ChecksumCRC32") else {}
        return {"PartNumber": number, "ETag": answer["ETag"], **checksum}, arrived

    def _compare(self, etag: str, part: Any) -> bool:
        """Find out whether this server's ETags are MD5; False where they are, but this one is another."""
        is_md5 = etag == hashlib.md5(part, usedforsecurity=False).hexdigest()
        if self._tells_md5 and not is_md5:
            return False
        self._tells_md5 = is_md5
        return True

    def _complete(self, upload: str, sent: Any) -> str:
        """Returns the version."""
        try:
            with self._words("CompleteMultipartUpload", self._key):
                answer = self._client.complete_multipart_upload(
                    **self._bucket.at(self._key), UploadId=upload, MultipartUpload={"Parts": sent}
                )
        except StepError as error:
            return self._version_all_the_same(error)
        return _version(answer)

    @contextmanager
    def _words(self, action: str, what: str) -> Iterator[None]:
        with self._bucket.words(action, what):
            try:
                yield
            except ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise
                words = "Another worker, or a rule of the bucket, aborted it. Begin again."
                raise StepError(f"The upload of {self._key} is not there any more. {words}") from error

    def _abort(self, upload: str) -> None:
        """What cannot be aborted now is found by `abandon`."""
        with suppress(StepError):
            for _ in range(ABORTS):
                abort(self._bucket, self._key, upload)
                with self._bucket.words("ListMultipartUploadParts", self._key):
                    try:
                        self._client.list_parts(**self._bucket.at(self._key), UploadId=upload, MaxParts=1)
                    except ClientError as error:
                        if code_of(error) == "NoSuchUpload":
                            return
                        raise

    # --- what became of it --------------------------------------------------------------------------

    def _version_all_the_same(self, error: StepError) -> str:
        """Raises the error after all, unless the object is there, and ours."""
        found: dict[str, Any] = {}
        with suppress(StepError, ClientError), self._bucket.words("GetObject", self._key):
            found = dict(self._client.head_object(**self._bucket.at(self._key)))
        if self._token not in found.get("Metadata", {}).values():
            raise error
        return _version(found)

    def _confirm(self, version: str) -> None:
        """Raises StepError when the storage does not hold what was sent, and removes it if it can only be ours."""
        which = {**self._bucket.at(self._key), **({"VersionId": version} if version else {})}
        with self._bucket.words("GetObject", self._key):
            try:
                found: dict[str, Any] = dict(self._client.head_object(**which))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NOT_FOUND:
                    raise
                words = f"{self._key} is not in bucket {self._bucket.name}, though S3 said that it was. Try again."
                raise StepError(words) from error
        if found["ContentLength"] != self._size:
            self._remove(which)
            words = "It was removed" if self._ours else "Somebody else may have written it since, so it stays"
            raise StepError(
                f"{self._key} has {found['ContentLength']} bytes in bucket {self._bucket.name}, but {self._size} were "
                f"sent. {words}; try again."
            )
        if self._bucket.lock_days and not found.get("ObjectLockRetainUntilDate"):
            self._lock(which)

    def _lock(self, which: dict[str, Any]) -> None:
        """Some servers forget the lock of an upload in parts, and some do not even know what a lock is."""
        lock = self._bucket.lock()
        retention: Any = {"Mode": lock["ObjectLockMode"], "RetainUntilDate": lock["ObjectLockRetainUntilDate"]}
        with self._bucket.words("PutObjectRetention", self._key):
            self._client.put_object_retention(**which, Retention=retention)
        with self._bucket.words("GetObjectRetention", self._key):
            locked: dict[str, Any] = dict(self._client.head_object(**which))
        if not locked.get("ObjectLockRetainUntilDate"):
            self._remove(which)
            raise StepError(
                f"{self._key} is not locked after it was written: bucket {self._bucket.name} has no Object Lock, or "
                "this control plane may not see it (s3:GetObjectRetention). Change one of them, or take "
                "object_lock_days out of the storage's settings.",
                permanent=True,
            )

    def _remove(self, which: dict[str, Any]) -> None:
        if not self._ours:
            return
        with suppress(StepError), self._bucket.words("DeleteObject", self._key):
            self._client.delete_object(**which)


def uploads(bucket: Bucket, prefix: str) -> Iterator[tuple[str, str]]:
    """Uploads below the prefix that are not finished: key and id of each. Raises StepError."""
    with bucket.words("ListBucketMultipartUploads"):
        pages = bucket.client.get_paginator("list_multipart_uploads")
        try:
            for page in pages.paginate(Bucket=bucket.name, Prefix=bucket.prefix + prefix):
                for one in page.get("Uploads", []):
                    yield one["Key"].removeprefix(bucket.prefix), one["UploadId"]
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":  # what rclone says of a bucket that never had one
                raise


def abort(bucket: Bucket, key: str, upload: str) -> None:
    """What is gone already is no error. Raises StepError."""
    with bucket.words("AbortMultipartUpload", key):
        try:
            bucket.client.abort_multipart_upload(**bucket.at(key), UploadId=upload)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise


def _version(answer: Any) -> str:
    version = answer.get("VersionId", "")
    return "" if version == "null" else str(version)
