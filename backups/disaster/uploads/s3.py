"""Uploads in two buckets: S3, or what speaks its language.

bucket, prefix          of each side; prefix may be left out
region, endpoint_url    without an endpoint_url it is AWS
access_key, secret_key  secret references; neither for the credentials of this process. To copy from bucket to bucket
                        without the data passing here, those of the target have to be allowed to read the source
path_style, answer_seconds, attempts, as of a storage
storage_class           of what is brought over (the guide's DR bucket: STANDARD_IA)
replication             S3 replicates from bucket to bucket (true): readiness asks whether it does
lag_minutes, …          see `mending.COMMON`
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from backups.disaster.base import NOT_READY, READY, UNKNOWN, Check, Part, Side
from backups.disaster.uploads.comparing import MD5, File, Proof
from backups.disaster.uploads.copying import BucketCopier
from backups.disaster.uploads.known import LAG_MINUTES, NS, last_known, missing_check
from backups.disaster.uploads.mending import COMMON, Ends, check_common, mend_part, own_of, steps_of
from backups.storage.s3 import S3Kind
from backups.storage.s3_bucket import Bucket, code_of
from controlplane.operations.errors import StepError
from controlplane.operations.registry import StepFunction
from environments.aws import Account

STORE = ("bucket", "prefix", "region", "endpoint_url", "access_key", "secret_key", "path_style", "answer_seconds",
         "attempts")  # fmt: skip
OWN = ("storage_class", "replication")
# Nobody waits long for a region that is gone.
PATIENCE = {"answer_seconds": 20.0, "attempts": 3}
CLASSES = ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR")
UNKNOWING = {"NotImplemented", "MethodNotAllowed"}  # servers that know no replication
CHECKSUMS = ("ChecksumCRC64NVME", "ChecksumSHA256", "ChecksumSHA1", "ChecksumCRC32C", "ChecksumCRC32")


class S3Uploads:
    """See `base.Uploads`."""

    kind = "s3"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = steps_of(self.kind, ends)

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """See the top of this file."""
        wrong = check_common(given)
        sides = {side: own_of(given, side) for side in ("primary", "standby")}
        for side, own in sides.items():
            wrong |= {f"{side}.{key}": "is no setting of a bucket" for key in own.keys() - {*STORE, *OWN, *COMMON}}
            store = {key: value for key, value in own.items() if key in STORE}
            wrong |= {f"{side}.{key}": words for key, words in S3Kind().check_settings(store).items()}
            if own.get("storage_class", CLASSES[0]) not in CLASSES:
                wrong[f"{side}.storage_class"] = f"has to be one of {', '.join(CLASSES)}"
            if not isinstance(own.get("replication", True), bool):
                wrong[f"{side}.replication"] = "has to be true or false"
        places = [[own.get(key) for key in ("endpoint_url", "bucket", "prefix")] for own in sides.values()]
        if not wrong and places[0] == places[1]:
            wrong["standby.bucket"] = "has to be another one than the primary's"
        return wrong

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Is replication set up, does it keep up, and is everything there?"""
        checks = [_readable(target), missing_check(source, target)]
        if source.settings.get("replication", True):
            checks += [_replicates(source, target), _keeps_up(source, target)]
        return checks

    def mend(self, source: Side, target: Side) -> Part:
        """Bring over what is missing, as far as the source can be read. The plan goes on without it: see `mending`."""
        return mend_part(self.kind, source, target)


def ends(source: Side, target: Side) -> Ends:
    """Both buckets. Nothing is asked yet. Raises StepError."""
    ours, theirs = BucketPlace(source), BucketPlace(target)
    copier = BucketCopier(
        ours.bucket, theirs.bucket, server_side=_speak_for_each_other(source, target),
        storage_class=target.settings.get("storage_class", ""),
    )  # fmt: skip
    return Ends(ours, theirs, copier, (*_keys(source), *_keys(target)))


def _speak_for_each_other(source: Side, target: Side) -> bool:
    """One server, asked as the same: it can copy by itself."""
    same = ("endpoint_url", "access_key", "secret_key")
    return all(source.settings.get(key, "") == target.settings.get(key, "") for key in same)


def _keys(side: Side) -> tuple[str, ...]:
    given = side.settings
    return Account("", access_key=given.get("access_key", ""), secret_key=given.get("secret_key", "")).keys()


class BucketPlace:
    """See `comparing.Place`."""

    def __init__(self, side: Side) -> None:
        given = {**PATIENCE, **{key: value for key, value in side.settings.items() if key in STORE}}
        self.bucket: Bucket = S3Kind().open(given).bucket

    def files(self, after: str) -> Iterator[File]:
        """The current versions. The next page is asked for while one is gone through."""
        start = self.bucket.prefix
        where: dict[str, Any] = {"StartAfter": start + after} if after else {}
        with self.bucket.words("ListBucket"), ThreadPoolExecutor(1, "listing") as pool:
            found = self.bucket.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket.name, Prefix=start, **where
            )
            pages = iter(found)
            coming = pool.submit(next, pages, None)
            while (page := coming.result()) is not None:
                coming = pool.submit(next, pages, None)
                for one in page.get("Contents", []):
                    if name := one["Key"].removeprefix(start):
                        yield File(name, one["Size"], _ns(one["LastModified"]), one["ETag"].strip('"'))

    def proof(self, name: str) -> Proof:
        """Checksums, and the MD5 where the ETag is one: that of an object encrypted by a key of KMS is not."""
        found = self.head(name)
        if found is None:
            return Proof()
        digests = {key: str(found[key]) for key in CHECKSUMS if key in found and "-" not in str(found[key])}
        etag = str(found["ETag"]).strip('"')
        if MD5.fullmatch(etag) and found.get("ServerSideEncryption", "AES256") == "AES256":
            digests["MD5"] = etag
        return Proof(digests, replica=found.get("ReplicationStatus") == "REPLICA")

    def head(self, name: str) -> dict[str, Any] | None:
        """All that the server says of it; None for nothing."""
        with self.bucket.words("GetObject", name):
            try:
                return dict(self.bucket.client.head_object(**self.bucket.at(name), ChecksumMode="ENABLED"))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                return None

    def ask(self) -> None:
        """Raises StepError when it cannot be listed."""
        with self.bucket.words("ListBucket"):
            self.bucket.client.list_objects_v2(Bucket=self.bucket.name, Prefix=self.bucket.prefix, MaxKeys=1)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * NS + moment.microsecond * 1000


# --- readiness ----------------------------------------------------------------------------------------


def _readable(target: Side) -> Check:
    title = "Uploads can be read"
    try:
        place = BucketPlace(target)
        place.ask()
    except StepError as error:
        return Check("uploads-there", title, NOT_READY, f"{target.environment}: {error}")
    return Check("uploads-there", title, READY, f"bucket {place.bucket.name} of {target.environment}")


def _replicates(source: Side, target: Side) -> Check:
    """The guide's aws_s3_bucket_replication_configuration: a rule that is enabled, to the other side's bucket."""
    title = "Uploads are replicated"
    key = "uploads-replication"
    try:
        ours, theirs = BucketPlace(source).bucket, BucketPlace(target).bucket
        rules = _rules(ours)
    except StepError as error:
        return Check(key, title, UNKNOWN, str(error))
    if rules is None:
        words = f"The server of bucket {ours.name} knows no replication. Say replication = false in the plan's uploads."
        return Check(key, title, UNKNOWN, words)
    wanted = f"arn:aws:s3:::{theirs.name}"
    there = [rule for rule in rules if rule.get("Destination", {}).get("Bucket") == wanted]
    if not there:
        words = f"Bucket {ours.name} has no rule that replicates to {theirs.name}. Add one, as the guide has it."
        return Check(key, title, NOT_READY, words)
    enabled = [rule for rule in there if rule.get("Status") == "Enabled"]
    if not enabled:
        words = f"The rule {there[0].get('ID', '')} of bucket {ours.name} is disabled. Enable it."
        return Check(key, title, NOT_READY, words)
    if not any(ours.prefix.startswith(covered_by(rule)) for rule in enabled):
        words = f"The rules of bucket {ours.name} do not cover everything below {ours.prefix or 'its top'}."
        return Check(key, title, NOT_READY, words)
    return Check(key, title, READY, f"rule {enabled[0].get('ID', '')} of bucket {ours.name}, to {theirs.name}")


def _rules(bucket: Bucket) -> list[dict[str, Any]] | None:
    """None where the server knows no such thing. Raises StepError."""
    with bucket.words("GetReplicationConfiguration"):
        try:
            found: Any = bucket.client.get_bucket_replication(Bucket=bucket.name)
        except ClientError as error:
            if code_of(error) == "ReplicationConfigurationNotFoundError":
                return []
            if code_of(error) in UNKNOWING:
                return None
            raise
    return list(found.get("ReplicationConfiguration", {}).get("Rules", []))


def covered_by(rule: Mapping[str, Any]) -> str:
    """What a rule covers. One that also wants tags covers nothing for sure: the last thing any prefix begins with."""
    chosen = rule.get("Filter", {})
    if "Tag" in chosen or chosen.get("And", {}).get("Tags"):
        return "\uffff"
    return str(chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _keeps_up(source: Side, target: Side) -> Check:
    """What S3 says of the newest objects that the last comparison saw."""
    title = "Replication keeps up"
    key = "uploads-lag"
    row = last_known(source, target)
    if row is None:
        return Check(key, title, UNKNOWN, "The newest objects are known once both sides were compared.")
    place = None
    statuses: dict[str, list[float]] = {}
    try:
        place = BucketPlace(source)
        for modified_ns, name in row.totals.get("newest", []):
            found = place.head(name)
            if found is not None:
                statuses.setdefault(str(found.get("ReplicationStatus", "none")), []).append(modified_ns / NS)
    except StepError as error:
        return Check(key, title, UNKNOWN, str(error))
    return _lag(key, title, statuses, float(target.settings.get("lag_minutes", LAG_MINUTES)))


def _lag(key: str, title: str, statuses: Mapping[str, list[float]], allowed: float) -> Check:
    asked = sum(len(one) for one in statuses.values())
    if failed := len(statuses.get("FAILED", [])):
        words = f"S3 could not replicate {failed} of the {asked} newest. Look at the rule's role and its permissions."
        return Check(key, title, NOT_READY, words)
    if pending := statuses.get("PENDING"):
        minutes = (datetime.now(UTC).timestamp() - min(pending)) / 60
        words = f"{len(pending)} of the {asked} newest are on their way, the oldest for {minutes:.0f} min"
        return Check(key, title, READY if minutes <= allowed else NOT_READY, words)
    if asked and len(statuses.get("none", [])) == asked:
        words = f"S3 says of none of the {asked} newest that it was replicated: they were there before the rule."
        return Check(key, title, UNKNOWN, words)
    return Check(key, title, READY, f"the {asked} newest have arrived" if asked else "there is nothing yet")
