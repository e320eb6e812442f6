"""Backups in a bucket: S3, or what speaks its language.

bucket, prefix              prefix: of all keys, may be left out
region, endpoint_url        without an endpoint_url it is AWS
access_key, secret_key      secret references; neither of them for the credentials of this process
object_lock_days            nobody can delete an object before; the bucket must have been made with Object Lock
object_lock_mode            COMPLIANCE (not even its owner, the default) or GOVERNANCE
path_style                  the bucket is named in the path (the default with an endpoint_url)
answer_seconds, attempts    how long to wait for an answer, and how often to ask
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedReader
from itertools import islice
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from backups.storage.base import Entry, Stored, no_check
from backups.storage.keys import checked
from backups.storage.s3_bucket import Bucket, code_of
from backups.storage.s3_reading import Reading
from backups.storage.s3_upload import Upload, abort, uploads
from controlplane.operations.errors import StepError
from environments import addresses, secrets
from environments.aws import Account, s3

ANSWER_SECONDS = 60.0
ATTEMPTS = 5
BATCH = 1000
READ_BYTES = 1024 * 1024
MODES = ("COMPLIANCE", "GOVERNANCE")
PROBE = "write-probe"  # an upload that is never finished, so that no object, locked for years, is left of it
NEVER = datetime.max.replace(tzinfo=UTC)
UNVERSIONED = {"NotImplemented", "MethodNotAllowed"}  # servers that know no versions at all
ELSEWHERE_REGION = "us-east-1"  # what other servers take for a region


class S3Kind:
    """See `base.StoreKind`."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """See the top of this file."""
        wrong = {key: "is not a setting of S3" for key in settings if key not in _RULES}
        for key, rule in _RULES.items():
            if key in settings and (words := rule(settings[key])):
                wrong[key] = words
        if "bucket" not in settings:
            wrong["bucket"] = "has to be the name of a bucket"
        if "region" not in settings and "endpoint_url" not in settings:
            wrong["region"] = "has to be the bucket's region"
        for one, other in (("access_key", "secret_key"), ("secret_key", "access_key")):
            if one not in settings and other in settings:
                wrong[one] = f"has to be given together with {other}"
        return wrong

    def open(self, settings: Mapping[str, Any]) -> "S3Store":
        """Nothing is asked yet. Raises StepError."""
        for key, words in self.check_settings(settings).items():
            raise StepError(f"The storage's setting {key} {words}.", permanent=True)
        elsewhere = settings.get("endpoint_url", "")
        account = Account(
            settings.get("region", ELSEWHERE_REGION), elsewhere, settings.get("access_key", ""),
            settings.get("secret_key", ""), float(settings.get("answer_seconds", ANSWER_SECONDS)),
        )  # fmt: skip
        client = s3(
            account,
            settings.get("attempts", ATTEMPTS),
            path_style=settings.get("path_style", bool(elsewhere)),
            checksums=not elsewhere,
        )
        prefix = settings.get("prefix", "").strip("/")
        return S3Store(
            Bucket(
                client,
                settings["bucket"],
                f"{prefix}/" if prefix else "",
                checksums=not elsewhere,
                lock_days=settings.get("object_lock_days", 0),
                lock_mode=settings.get("object_lock_mode", MODES[0]),
            )
        )


class S3Store:
    """See `base.Store`."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self._client = bucket, bucket.client

    def put(self, key: str, chunks: Iterable[bytes], *, check: Callable[[], None] = no_check) -> Stored:
        """See `s3_upload`. With object_lock_days it is locked from now on."""
        return Upload(self.bucket, checked(key), check).run(chunks)

    @contextmanager
    def open(self, key: str, *, version: str = "") -> Iterator[BinaryIO]:
        """See `s3_reading`."""
        with BufferedReader(Reading(self.bucket, checked(key), version), READ_BYTES) as reader:
            yield reader

    def head(self, key: str) -> Entry | None:
        """None for nothing, but not for a bucket that is not there."""
        found = self._head(key)
        if found is None:
            return None
        return Entry(key, found["ContentLength"], found["LastModified"], found["ETag"].strip('"'))

    def _head(self, key: str, version: str = "") -> dict[str, Any] | None:
        which = {**self.bucket.at(checked(key)), **({"VersionId": version} if version else {})}
        with self.bucket.words("GetObject", key):
            try:
                return dict(self._client.head_object(**which))
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status >= 500:
                    raise
                self._look()  # the answer to HEAD has no words: this one has, if it is the bucket's or our fault
                if status == 404:
                    return None
                raise

    def _look(self) -> None:
        with self.bucket.words("ListBucket"):
            self._client.list_objects_v2(Bucket=self.bucket.name, Prefix=self.bucket.prefix, MaxKeys=1)

    def list(self, prefix: str) -> Iterator[Entry]:
        """The current versions."""
        start = self.bucket.prefix
        with self.bucket.words("ListBucket"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket.name, Prefix=start + prefix):
                for one in page.get("Contents", []):
                    key = one["Key"].removeprefix(start)
                    yield Entry(key, one["Size"], one["LastModified"], one["ETag"].strip('"'))

    def delete(self, keys: Iterable[str]) -> int:
        """In batches; a batch has no order."""
        count = 0
        versioned = self._is_versioned()
        asked = iter(keys)
        while batch := [checked(key) for key in islice(asked, BATCH)]:
            which = (one for key in batch for one in (self._versions(key) if versioned else [{"Key": self._path(key)}]))
            while some := list(islice(which, BATCH)):
                self._delete(some)
            count += len(batch)
        return count

    def _path(self, key: str) -> str:
        return self.bucket.prefix + key

    def _is_versioned(self) -> bool:
        with self.bucket.words("GetBucketVersioning"):
            try:
                return "Status" in self._client.get_bucket_versioning(Bucket=self.bucket.name)
            except ClientError as error:
                if code_of(error) in UNVERSIONED:
                    return False
                raise

    def _versions(self, key: str) -> Iterator[dict[str, str]]:
        """All of the very key, delete markers too."""
        path = self._path(key)
        with self.bucket.words("ListBucketVersions"):
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.bucket.name, Prefix=path):
                found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                yield from ({"Key": path, "VersionId": one["VersionId"]} for one in found if one["Key"] == path)
                if any(one["Key"] != path for one in found):
                    return  # longer names come after it

    def _delete(self, which: Any) -> None:
        """At most BATCH."""
        with self.bucket.words("DeleteObject"):
            answer = self._client.delete_objects(Bucket=self.bucket.name, Delete={"Objects": which, "Quiet": True})
        for error in answer.get("Errors", []):
            if error.get("Code") not in ("NoSuchKey", "NoSuchVersion"):
                self._refused(error)

    def _refused(self, error: Any) -> None:
        """Raises StepError."""
        key, version = str(error.get("Key", "")).removeprefix(self.bucket.prefix), error.get("VersionId", "")
        if error.get("Code") == "AccessDenied" and (until := _locked_until(self._head(key, version))):
            raise StepError(f"{key} cannot be deleted: Object Lock holds it {_until(until)}.", permanent=True)
        with self.bucket.words("DeleteObject", key):
            raise ClientError({"Error": error}, "DeleteObjects")

    def abandon(self, prefix: str) -> int:
        """Their parts go too."""
        count = 0
        for key, upload in uploads(self.bucket, prefix):
            abort(self.bucket, key, upload)
            count += 1
        return count

    def locked_until(self, key: str) -> datetime | None:
        """The end of time for a legal hold, which somebody has to lift."""
        return _locked_until(self._head(key))

    def problem(self) -> str:
        """Lists, begins an upload and aborts it; looks for Object Lock where it is wanted."""
        try:
            self._look()
            if self.bucket.lock_days and not self._can_lock():
                return (
                    f"Bucket {self.bucket.name} has no Object Lock, so object_lock_days cannot be kept. Enable Object "
                    "Lock for the bucket, or take object_lock_days out of the storage's settings."
                )
            with self.bucket.words("PutObject", PROBE):
                self._client.create_multipart_upload(**self.bucket.at(PROBE))
            self.abandon(PROBE)
        except StepError as error:
            return str(error)
        return ""

    def _can_lock(self) -> bool:
        with self.bucket.words("GetBucketObjectLockConfiguration"):
            try:
                found = self._client.get_object_lock_configuration(Bucket=self.bucket.name)
            except ClientError as error:
                if code_of(error) in {"ObjectLockConfigurationNotFoundError", *UNVERSIONED}:
                    return False
                raise
        return found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"


def _locked_until(found: Mapping[str, Any] | None) -> datetime | None:
    if found is None:
        return None
    if found.get("ObjectLockLegalHoldStatus") == "ON":
        return NEVER
    until: datetime | None = found.get("ObjectLockRetainUntilDate")
    return until if until is not None and until > datetime.now(UTC) else None


def _until(moment: datetime) -> str:
    if moment == NEVER:
        return "until somebody lifts its legal hold"
    return f"until {moment:%Y-%m-%d %H:%M} UTC"


def _text(value: object) -> str:
    return "" if isinstance(value, str) and value else "has to be a text"


def _bucket(value: object) -> str:
    return "" if isinstance(value, str) and value and "/" not in value else "has to be the name of a bucket"


def _prefix(value: object) -> str:
    if not isinstance(value, str):
        return "has to be a text"
    try:
        return "" if not value.strip("/") else checked(value.strip("/")) and ""
    except StepError:
        return "must have no empty part, and none that begins with a dot"


def _address(value: object) -> str:
    return addresses.problem_with(value) if isinstance(value, str) else "has to be a URL"


def _reference(value: object) -> str:
    return secrets.problem_with(value) if isinstance(value, str) else "has to be a secret reference"


def _whole(least: int, most: int) -> Callable[[object], str]:
    def rule(value: object) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return "" if fits else f"has to be a whole number from {least} to {most}"

    return rule


def _seconds(value: object) -> str:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 3600
    return "" if fits else "has to be a number of seconds"


_RULES: dict[str, Callable[[Any], str]] = {
    "bucket": _bucket,
    "prefix": _prefix,
    "region": _text,
    "endpoint_url": _address,
    "access_key": _reference,
    "secret_key": _reference,
    "object_lock_days": _whole(1, 36_500),
    "object_lock_mode": lambda value: "" if value in MODES else f"has to be {' or '.join(MODES)}",
    "path_style": lambda value: "" if isinstance(value, bool) else "has to be true or false",
    "answer_seconds": _seconds,
    "attempts": _whole(1, 10),
}
