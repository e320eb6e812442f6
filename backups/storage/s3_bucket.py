"""One bucket, as the parts of the `s3` storage share it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from environments.aws import in_words

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Bucket:
    """prefix: of all keys, "" or ends with a slash. checksums: the server knows CRC32, so boto3 sends it.

    lock_days, lock_mode: what Object Lock each object gets; 0 for none.
    """

    client: "S3Client"
    name: str
    prefix: str = ""
    checksums: bool = True
    lock_days: int = 0
    lock_mode: str = "COMPLIANCE"

    def at(self, key: str) -> dict[str, Any]:
        """Bucket and key, as every call names them."""
        return {"Bucket": self.name, "Key": self.prefix + key}

    def words(self, action: str, what: str = "") -> AbstractContextManager[None]:
        """Errors of boto3 as StepError. action: as IAM names it, without the service."""
        return in_words(f"s3:{action}", f"{what} in bucket {self.name}" if what else f"bucket {self.name}")

    def lock(self) -> dict[str, Any]:
        """The Object Lock of an object that is written now, as the calls name it."""
        if not self.lock_days:
            return {}
        until = datetime.now(UTC) + timedelta(days=self.lock_days)
        return {"ObjectLockMode": self.lock_mode, "ObjectLockRetainUntilDate": until}


def code_of(error: ClientError) -> str:
    """What the server calls it."""
    return str(error.response.get("Error", {}).get("Code", ""))
