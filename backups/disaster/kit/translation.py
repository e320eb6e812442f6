"""From what the drivers' settings say of a part to what recover.py does: pure, one function a part.

The script knows databases on RDS, and DNS by Route 53 or by a flag in a bucket. Of everything else plan.json has the
settings as they are, for the person who does it by hand.
"""

from collections.abc import Mapping
from typing import Any

from backups.disaster.base import Side
from backups.disaster.databases.rds_settings import value_of
from backups.disaster.traffic.route53 import FULL, records_of
from backups.disaster.traffic.zone import REGION

ACCOUNT = ("region", "endpoint_url")
KEYS = ("access_key", "secret_key")
# What a restored instance is given, by our names and by RDS's.
RESTORE_OPTIONS = {
    "instance_class": "DBInstanceClass", "subnet_group": "DBSubnetGroupName", "parameter_group": "DBParameterGroupName",
    "multi_az": "MultiAZ", "deletion_protection": "DeletionProtection",
    # It is behind the fence itself until it is opened.
    "fenced_security_groups": "VpcSecurityGroupIds",
}  # fmt: skip

Json = dict[str, Any]


def account_of(settings: Mapping[str, Any], name: str) -> Json:
    """How to reach AWS, with the names of the variables that hold the keys ("" where boto3's own chain is asked)."""
    found: Json = {key: str(settings.get(key, "")) for key in ACCOUNT}
    return found | {f"{key}_env": _variable(str(settings.get(key, "")), name, key) for key in KEYS}


def _variable(reference: str, name: str, key: str) -> str:
    if not reference:
        return ""
    kind, _, place = reference.partition(":")
    return place if kind == "env" else f"{name}_{key}".upper().replace("-", "_")


def database_of(kind: str, source: Side, target: Side) -> Json:
    """For kind "rds": where the instances are, and how the new one is restored."""
    if kind != "rds":
        return {"kind": kind, "from": dict(source.settings), "to": dict(target.settings)}
    return {"kind": kind, "from": _instance(source), "to": _instance(target)}


def _instance(side: Side) -> Json:
    options: Json = {theirs: value_of(side, ours) for ours, theirs in RESTORE_OPTIONS.items() if value_of(side, ours)}
    return {
        "environment": side.environment, **account_of(side.settings, side.environment),
        "instance": value_of(side, "instance"), "options": {**options, "PubliclyAccessible": False},
        "fence": value_of(side, "fence"), "groups": value_of(side, "security_groups"),
        "fenced_groups": value_of(side, "fenced_security_groups"), "snapshot_prefix": value_of(side, "snapshot_prefix"),
        "endpoint": _endpoint(side),
    }  # fmt: skip


def _endpoint(side: Side) -> Json:
    """The record by which applications find the database; empty where they are told its address."""
    name = value_of(side, "endpoint_name")
    if not name:
        return {}
    return {"name": name, "ttl": value_of(side, "ttl"), "zone": value_of(side, "zone"), "place": dns_of(side)}


def dns_of(side: Side) -> Json:
    """How to reach Route 53, which may be by an account of its own."""
    given = {key: side.settings.get(f"dns_{key}", side.settings.get(key, "")) for key in ("endpoint_url", *KEYS)}
    return account_of({**given, "region": REGION}, side.environment)


def traffic_of(kind: str, source: Side, target: Side) -> Json:
    """For "route53" the record sets as they have to be, for "flag" where it is and what it has to say.

    Raises StepError for settings that do not say.
    """
    if kind == "route53":
        return {"kind": kind, "place": dns_of(target), "zone": target.settings.get("zone", ""),
                "records": _records(source, target)}  # fmt: skip
    if kind == "flag":
        return {"kind": kind, **_flag(target)}
    return {"kind": kind, "from": dict(source.settings), "to": dict(target.settings)}


def _records(source: Side, target: Side) -> list[Json]:
    names = list(target.settings.get("names", []))
    if not target.settings.get("weighted"):
        return records_of(target, names)
    return [*records_of(target, names, FULL), *records_of(source, names, 0)]


def _flag(target: Side) -> Json:
    settings = target.settings
    by = settings.get("by", "object")
    name = settings.get("alarm" if by == "alarm" else "key", "")
    place = {**account_of(settings, target.environment), "path_style": bool(settings.get("path_style"))}
    return {"place": place, "by": by, "bucket": settings.get("bucket", ""), "name": name,
            "raised": bool(settings.get("raised"))}  # fmt: skip
