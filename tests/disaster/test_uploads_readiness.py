"""Is replication set up as in the guide, does it keep up, and is everything there as far as anybody knows?"""

from typing import Any

import pytest

from backups.disaster.base import Check
from backups.disaster.regions import compare
from backups.disaster.uploads import UPLOADS
from backups.disaster.uploads.s3 import covered_by
from backups.models import UploadsComparison
from tests.backups.wire import DENIED, Fault
from tests.disaster.paper import plan
from tests.disaster.two_buckets import Buckets, buckets

pytest_plugins = ["tests.backups.stores"]
__all__ = ["buckets", "plan"]
pytestmark = pytest.mark.django_db(transaction=True)


def checks(buckets: Buckets) -> dict[str, Check]:
    return {one.key: one for one in UPLOADS["s3"].readiness(*buckets.sides)}


def replicate(buckets: Buckets, *, status: str = "Enabled", to: str = "", **rule: Any) -> None:
    """The guide's aws_s3_bucket_replication_configuration."""
    for bucket in (buckets.ours.name, buckets.theirs):
        buckets.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    whole = {
        "ID": "replicate-to-dr", "Status": status, "Priority": 1, "DeleteMarkerReplication": {"Status": "Disabled"},
        "Filter": {"Prefix": ""},
        "Destination": {"Bucket": f"arn:aws:s3:::{to or buckets.theirs}", "StorageClass": "STANDARD_IA"}, **rule,
    }  # fmt: skip
    buckets.client.put_bucket_replication(
        Bucket=buckets.ours.name,
        ReplicationConfiguration={"Role": "arn:aws:iam::123456789012:role/replication", "Rules": [whole]},
    )


def test_as_in_the_guide(buckets: Buckets) -> None:
    replicate(buckets)
    found = checks(buckets)["uploads-replication"]
    assert (found.outcome, "replicate-to-dr" in found.words) == ("ready", True)


def test_without_a_rule(buckets: Buckets) -> None:
    found = checks(buckets)["uploads-replication"]
    assert (found.outcome, "has no rule that replicates to" in found.words) == ("not ready", True)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"status": "Disabled"}, "is disabled"),
        ({"to": "another-bucket"}, "has no rule that replicates to"),
    ],
)
def test_rules_that_do_not_help(buckets: Buckets, rule: dict[str, Any], words: str) -> None:
    replicate(buckets, **rule)
    found = checks(buckets)["uploads-replication"]
    assert (found.outcome, words in found.words) == ("not ready", True), found.words


@pytest.mark.parametrize(
    ("rule", "prefix", "covers"),
    [
        ({}, "up/", True),
        ({"Filter": {"Prefix": ""}}, "", True),
        ({"Filter": {"Prefix": "up"}}, "up/", True),
        ({"Prefix": "up/"}, "up/", True),  # as older configurations spell it
        ({"Filter": {"Prefix": "public/"}}, "", False),
        ({"Filter": {"Prefix": "public/"}}, "up/", False),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}}, "", False),
        ({"Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}}}, "", False),
    ],
)
def test_what_a_rule_covers(rule: dict[str, Any], prefix: str, covers: bool) -> None:
    """The simulator keeps no filters, so here without it."""
    assert prefix.startswith(covered_by(rule)) == covers


def test_a_server_that_knows_none(buckets: Buckets) -> None:
    buckets.ours.proxy.will("ListObjects", *[Fault(passes=True)], Fault(status=501, code="NotImplemented"))
    assert checks(buckets)["uploads-replication"].outcome == "unknown"
    buckets.change(replication=False)
    assert set(checks(buckets)) == {"uploads-there", "uploads-missing"}


def test_what_may_not_be_asked_is_unknown(buckets: Buckets) -> None:
    buckets.ours.proxy.will("ListObjects", *[Fault(passes=True)], DENIED)
    found = checks(buckets)["uploads-replication"]
    assert (found.outcome, "s3:GetReplicationConfiguration" in found.words) == ("unknown", True)


def test_never_compared(buckets: Buckets) -> None:
    found = checks(buckets)
    assert (found["uploads-missing"].outcome, found["uploads-lag"].outcome) == ("unknown", "unknown")
    assert not UploadsComparison.objects.exists(), "readiness compares nothing by itself"


def test_what_is_on_its_way_is_no_fault_and_what_is_late_is(buckets: Buckets) -> None:
    buckets.put("a", b"1")
    buckets.put("b", b"1")
    assert compare(buckets.plan)
    found = checks(buckets)["uploads-missing"]
    assert (found.outcome, "2 in production, 2 on their way" in found.words) == ("ready", True), found.words
    UploadsComparison.objects.all().delete()
    buckets.age("a", 3601)
    assert compare(buckets.plan)
    found = checks(buckets)["uploads-missing"]
    assert (found.outcome, "1 of 2 should have arrived at dr" in found.words) == ("not ready", True), found.words


@pytest.mark.parametrize(
    ("statuses", "seconds", "outcome", "words"),
    [
        (["COMPLETED", "COMPLETED"], 0, "ready", "the 2 newest have arrived"),
        (["PENDING", "COMPLETED"], 600, "ready", "the oldest for 10 min"),
        (["PENDING", "COMPLETED"], 3650, "not ready", "the oldest for 61 min"),
        (["FAILED", "COMPLETED"], 0, "not ready", "could not replicate 1 of the 2"),
        (["", ""], 0, "unknown", "before the rule"),
    ],
)
def test_lag_by_what_s3_says_of_the_newest(
    buckets: Buckets, statuses: list[str], seconds: float, outcome: str, words: str
) -> None:
    for name, status in zip("ab", statuses, strict=True):
        buckets.put(name, b"1")
        buckets.age(name, seconds)
        buckets.say(name, status)
    compare(buckets.plan)
    found = checks(buckets)["uploads-lag"]
    assert (found.outcome, words in found.words) == (outcome, True), found.words


def test_an_older_version_that_came_late_is_written_over(buckets: Buckets) -> None:
    """Its time at the target is that of its arrival; S3 says that replication brought it."""
    buckets.put("a", b"the new version")
    buckets.age("a", 10)
    buckets.put("a", b"the older one, late", there=True)
    buckets.say("a", "REPLICA", there=True)
    compare(buckets.plan)
    assert UploadsComparison.objects.get().totals["different"] == 1


def test_a_target_that_cannot_be_read_is_not_ready(buckets: Buckets) -> None:
    buckets.client.delete_bucket(Bucket=buckets.theirs)
    found = checks(buckets)["uploads-there"]
    assert (found.outcome, "dr: There is no such bucket" in found.words) == ("not ready", True)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"primary": {"bucket": "x/y"}}, "primary.bucket"),
        ({"standby": {"object_lock_days": 3}}, "standby.object_lock_days"),
        ({"standby": {"storage_class": "CHEAP"}}, "standby.storage_class"),
        ({"replication": "yes"}, "primary.replication"),
        ({"lag_minutes": -1}, "lag_minutes"),
        ({"follow": 1}, "follow"),
        ({"secret_key": "hunter2"}, "primary.secret_key"),
    ],
)
def test_settings_are_checked(buckets: Buckets, change: dict[str, Any], key: str) -> None:
    assert UPLOADS["s3"].check_settings(buckets.settings()) == {}
    assert key in UPLOADS["s3"].check_settings(buckets.settings(**change))


def test_both_sides_have_to_be_said_and_to_differ(buckets: Buckets) -> None:
    assert {"primary", "standby"} <= UPLOADS["s3"].check_settings({"region": "us-east-1"}).keys()
    same = {"region": "us-east-1", "primary": {"bucket": "a"}, "standby": {"bucket": "a"}}
    assert UPLOADS["s3"].check_settings(same) == {"standby.bucket": "has to be another one than the primary's"}
