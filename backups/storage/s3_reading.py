"""Reading one object of a bucket from its beginning to its end, over as many connections as it takes."""

from io import RawIOBase
from typing import TYPE_CHECKING, Any

from botocore import exceptions as boto
from botocore.exceptions import ClientError
from urllib3.exceptions import HTTPError

from backups.storage.s3_bucket import Bucket, code_of
from controlplane.operations.errors import StepError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LOST = (boto.HTTPClientError, boto.IncompleteReadError, HTTPError, OSError)
# So many losses in a row are taken, each of them after less than this many bytes.
LOSSES, PROGRESS_BYTES = 5, 8 * 1024 * 1024


class Reading(RawIOBase):
    """The object as a file. Raises StepError."""

    def __init__(self, bucket: Bucket, key: str, version: str) -> None:
        super().__init__()
        self._bucket, self._key = bucket, key
        self._which = {**bucket.at(key), **({"VersionId": version} if version else {})}
        self._at = self._lost_at = self._losses = 0
        first = self._ask()
        self._size, self._etag = int(first["ContentLength"]), first["ETag"]
        self._body = first["Body"]

    def _ask(self, **rest: Any) -> dict[str, Any]:
        with self._bucket.words("GetObject", self._key):
            try:
                return dict(self._bucket.client.get_object(**self._which, **rest))
            except ClientError as error:
                if code_of(error) in ("NoSuchKey", "NoSuchVersion"):
                    words = f"{self._key} is not in bucket {self._bucket.name}."
                    raise StepError(words, permanent=True) from error
                if code_of(error) == "PreconditionFailed":
                    raise self._changed() from error
                raise

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Raises StepError when it cannot be read to its end."""
        into = memoryview(buffer).cast("B")
        while True:
            lost: Exception | None = None
            data = b""
            try:
                # boto3 finds out about what is missing, or was garbled, when it finds the end.
                with self._bucket.words("GetObject", self._key):
                    data = self._read(len(into))
            except _Lost as error:
                lost = error
            if data:
                into[: len(data)] = data
                self._at += len(data)
                return len(data)
            if lost is None and self._at == self._size:
                return 0
            self._take_up(lost)

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._body.read(size)
        except LOST as error:
            raise _Lost(str(error)) from error
        return data

    def _take_up(self, lost: Exception | None) -> None:
        """Go on where it was."""
        self._body.close()
        self._losses = 1 if self._at - self._lost_at >= PROGRESS_BYTES else self._losses + 1
        self._lost_at = self._at
        if self._losses > LOSSES:
            raise StepError(
                f"{self._key} in bucket {self._bucket.name} cannot be read to its end: the connection was lost again "
                f"and again at byte {self._at} of {self._size} ({lost or 'it just ended'})."
            )
        again = self._ask(Range=f"bytes={self._at}-", IfMatch=self._etag)
        self._body = again["Body"]
        if again["ETag"] != self._etag:
            raise self._changed()
        if not str(again.get("ContentRange", "")).startswith(f"bytes {self._at}-"):
            words = f"{self._key} cannot be taken up at byte {self._at}: the server of bucket {self._bucket.name} " \
                    "does not know ranges."  # fmt: skip
            raise StepError(words)

    def _changed(self) -> StepError:
        return StepError(f"{self._key} in bucket {self._bucket.name} was replaced while it was read. Begin again.")

    def close(self) -> None:
        """The connection too."""
        if not self.closed and hasattr(self, "_body"):
            self._body.close()
        super().close()


class _Lost(Exception):
    """The connection is gone."""
