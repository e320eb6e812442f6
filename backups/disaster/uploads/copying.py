"""Bringing one object from bucket to bucket: by the server itself where it can, through this worker where it cannot.

1. Look at the target right before: something newer, or the thing itself, may be there by now.
2. Copy what the listing showed and nothing else (the source's ETag is a condition), onto what it showed (on AWS a
   condition too); whoever was quicker wins.
3. Above what one request may copy, in parts. What goes wrong on the way is aborted and leaves nothing.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from backups.disaster.uploads.comparing import MD5, File
from backups.storage.s3_bucket import Bucket, code_of
from backups.storage.s3_upload import abort
from controlplane.operations.errors import StepError

MIB = 1024 * 1024
# What one CopyObject takes, and how large the parts above are; through this worker a part is in memory.
COPY_BYTES, COPY_PART = 5 * 1024 * MIB, 512 * MIB
SEND_BYTES, SEND_PART = 8 * MIB, 8 * MIB
MOST_PARTS = 10_000
PARTS_AT_ONCE = 3
GONE = {"NoSuchKey", "404"}
CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
# What an object carries beside its content.
KEPT = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl", "Metadata",
        "WebsiteRedirectLocation")  # fmt: skip

Part = dict[str, Any]


class BucketCopier:
    """See `walking.Copier`. server_side: the target's server may read the source by itself."""

    def __init__(self, source: Bucket, target: Bucket, *, server_side: bool, storage_class: str = "") -> None:
        self._source, self._target, self._server_side = source, target, server_side
        self._class: dict[str, Any] = {"StorageClass": storage_class} if storage_class else {}
        self._uploads: dict[str, str] = {}
        self.at_once, self.part = (COPY_BYTES, COPY_PART) if server_side else (SEND_BYTES, SEND_PART)

    def copy(self, here: File, there: File | None, check: Callable[[], None], begun: Callable[[], None]) -> bool:
        """See `walking.Copier`."""
        now = self._head(self._target, here.name)
        if not self._is_as_listed(now, there):
            return _is_it(now, here)
        check()
        try:
            with self._target.words("PutObject", here.name):
                return self._bring(here, self._condition(there), check, begun)
        except _Changed:
            # Perhaps by us: an answer that was lost is asked for once more, and then it is there.
            return _is_it(self._head(self._target, here.name), here)

    def unfinished(self) -> list[list[str]]:
        """Name and id of each upload in parts that is under way."""
        return [[name, upload] for upload, name in list(self._uploads.items())]

    def abandon(self, uploads: list[list[str]]) -> None:
        """Abort what a killed worker had begun; what is gone is no error. Raises StepError."""
        for name, upload in uploads:
            abort(self._target, name, upload)

    def _is_as_listed(self, now: dict[str, Any] | None, there: File | None) -> bool:
        """Whoever wrote there since the listing made something newer, or was another worker with the same errand."""
        if now is None or there is None:
            return now is None and there is None
        return str(now["ETag"]).strip('"') == there.mark and int(now["ContentLength"]) == there.size

    def _condition(self, there: File | None) -> dict[str, Any]:
        """Servers other than AWS may refuse a condition that they do not know."""
        if not self._target.checksums:
            return {}
        return {"IfMatch": f'"{there.mark}"'} if there else {"IfNoneMatch": "*"}

    def is_large(self, here: File) -> bool:
        """More than one request takes."""
        return here.size > self.at_once

    def _bring(
        self, here: File, condition: dict[str, Any], check: Callable[[], None], begun: Callable[[], None]
    ) -> bool:
        try:
            if self.is_large(here):
                self._in_parts(here, condition, check, begun)
            elif self._server_side:
                self._copy(here, condition)
            else:
                self._send(here, condition, check)
        except ClientError as error:
            if code_of(error) in GONE | CHANGED:
                raise _Changed from error
            raise
        self._confirm(here)
        return True

    def _copy(self, here: File, condition: dict[str, Any]) -> None:
        """Metadata and tags come along."""
        self._target.client.copy_object(**self._target.at(here.name), **self._from(here), **condition, **self._class)

    def _from(self, here: File) -> dict[str, Any]:
        which = self._source.at(here.name)
        return {"CopySource": which, "CopySourceIfMatch": f'"{here.mark}"'}

    def _send(self, here: File, condition: dict[str, Any], check: Callable[[], None]) -> None:
        with self._source.words("GetObject", here.name):
            try:
                found: Any = self._source.client.get_object(**self._source.at(here.name), IfMatch=f'"{here.mark}"')
            except ClientError as error:
                if code_of(error) in GONE | CHANGED:
                    raise _Changed from error
                raise
            body = found["Body"].read()
        check()
        self._target.client.put_object(
            **self._target.at(here.name), Body=body, **_about(found), **condition, **self._class
        )

    # --- in parts -----------------------------------------------------------------------------------

    def _in_parts(
        self, here: File, condition: dict[str, Any], check: Callable[[], None], begun: Callable[[], None]
    ) -> None:
        found = self._head(self._source, here.name)
        if found is None or str(found["ETag"]).strip('"') != here.mark:
            raise _Changed
        at, client = self._target.at(here.name), self._target.client
        answer: Any = client.create_multipart_upload(**at, **_about(found), **self._class)
        upload = str(answer["UploadId"])
        self._uploads[upload] = here.name
        try:
            begun()
            parts = self._all_parts(here, upload, check)
            check()
            client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with suppress(StepError):
                abort(self._target, here.name, upload)
            raise
        finally:
            self._uploads.pop(upload, None)

    def _all_parts(self, here: File, upload: str, check: Callable[[], None]) -> Any:
        size = max(self.part, math.ceil(here.size / MOST_PARTS))
        ranges = [(start, min(start + size, here.size) - 1) for start in range(0, here.size, size)]
        bring = self._part_by_server if self._server_side else self._part_through_us

        def one(numbered: tuple[int, tuple[int, int]]) -> Part:
            check()
            number, (first, last) = numbered
            return {"PartNumber": number, **bring(here, {"UploadId": upload, "PartNumber": number}, first, last)}

        with ThreadPoolExecutor(PARTS_AT_ONCE, "parts") as pool:
            try:
                return list(pool.map(one, enumerate(ranges, 1)))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _part_by_server(self, here: File, which: dict[str, Any], first: int, last: int) -> Part:
        answer: Any = self._target.client.upload_part_copy(
            **self._target.at(here.name), **which, **self._from(here), CopySourceRange=f"bytes={first}-{last}"
        )
        return {"ETag": answer["CopyPartResult"]["ETag"]}

    def _part_through_us(self, here: File, which: dict[str, Any], first: int, last: int) -> Part:
        with self._source.words("GetObject", here.name):
            try:
                found: Any = self._source.client.get_object(
                    **self._source.at(here.name), Range=f"bytes={first}-{last}", IfMatch=f'"{here.mark}"'
                )
            except ClientError as error:
                if code_of(error) in GONE | CHANGED:
                    raise _Changed from error
                raise
            body = found["Body"].read()
        answer: Any = self._target.client.upload_part(**self._target.at(here.name), **which, Body=body)
        checksum = {"ChecksumCRC32": answer["ChecksumCRC32"]} if answer.get("ChecksumCRC32") else {}
        return {"ETag": answer["ETag"], **checksum}

    # --- what came of it ----------------------------------------------------------------------------

    def _confirm(self, here: File) -> None:
        """Raises StepError when the target does not have what was copied."""
        found = self._head(self._target, here.name)
        etag = str(found["ETag"]).strip('"') if found else ""
        if found is None or int(found["ContentLength"]) != here.size:
            raise StepError(f"{here.name} is not in bucket {self._target.name} as it was copied. Try again.")
        plain = MD5.fullmatch(etag) and MD5.fullmatch(here.mark)
        if plain and etag != here.mark and not self._server_side and _tells_md5(found):
            raise StepError(f"{here.name} arrived changed at bucket {self._target.name}. Try again.")

    def _head(self, bucket: Bucket, name: str) -> dict[str, Any] | None:
        with bucket.words("GetObject", name):
            try:
                return dict(bucket.client.head_object(**bucket.at(name)))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                return None


class _Changed(Exception):
    """One side is not what the listing showed: the next comparison sees what it is."""


def _is_it(now: dict[str, Any] | None, here: File) -> bool:
    """Whether the target has the very thing."""
    return now is not None and int(now["ContentLength"]) == here.size and str(now["ETag"]).strip('"') == here.mark


def _about(found: dict[str, Any]) -> dict[str, Any]:
    kept = {key: found[key] for key in KEPT if found.get(key)}
    expires = found.get("Expires")
    return {**kept, **({"Expires": expires} if isinstance(expires, datetime) else {})}


def _tells_md5(found: dict[str, Any]) -> bool:
    return bool(found.get("ServerSideEncryption", "AES256") == "AES256")
