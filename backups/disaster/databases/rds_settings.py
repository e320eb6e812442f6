"""The settings of a database of kind "rds": what they are, what is usual, and what is wrong with given ones.

What is common to both sides may stand beside "primary" and "standby"; what a side says of itself counts more.
"""

import re
from collections.abc import Mapping
from typing import Any

from backups.disaster.base import Side
from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from environments.addresses import problem_with as problem_with_url
from environments.aws import Account
from environments.secrets import problem_with as problem_with_secret

ACCOUNT: Arguments = {"region": "", "endpoint_url": "", "access_key": "", "secret_key": "", "answer_seconds": 20.0}
DNS: Arguments = {"dns_endpoint_url": "", "dns_access_key": "", "dns_secret_key": "", "dns_answer_seconds": 20.0}
DEFAULTS: Arguments = {
    **ACCOUNT,
    **DNS,
    "instance": "",  # the database of the side: the one that is, or is to be
    "instance_class": "",  # "" for what the snapshot had
    "subnet_group": "",
    "parameter_group": "",
    "security_groups": [],
    "fenced_security_groups": [],
    "drill_security_groups": [],  # [] for security_groups
    "replica": False,  # whether the waiting side's instance has to be a replica of the other
    "snapshot_prefix": "",
    "kms_key": "",  # of the side's region, for encrypted snapshots that come from another one
    "multi_az": False,
    "deletion_protection": True,
    "endpoint_name": "",
    "drill_endpoint_name": "",
    "zone": "",
    "ttl": 30,
    "fence": "security-groups",
    "replace": "refuse",
    "reverse": "snapshot",
    "max_lag_seconds": 300.0,
    "restore_seconds": 10_800.0,
    "copy_seconds": 7_200.0,
    "retry_seconds": 2.0,
    "checks": [],  # the plan's own
    "database": "postgres",
    "user": "postgres",
    "password": "",
    "address": "",
    "drill_address": "",
}
REQUIRED = ("region", "instance", "security_groups", "fenced_security_groups")
CHOICES = {
    "fence": ("security-groups", "stop"), "replace": ("refuse", "rename"), "reverse": ("snapshot", "replica"),
}  # fmt: skip
SECRETS = ("access_key", "secret_key", "dns_access_key", "dns_secret_key", "password")
URLS = ("endpoint_url", "dns_endpoint_url")
IDENTIFIER = re.compile(r"(?!.*--)[a-zA-Z][a-zA-Z0-9-]{0,62}(?<!-)")
LONGEST_INSTANCE = 40  # so that what is made from it, with an operation's number, has a name too
SIDES = ("primary", "standby")
ELSEWHERE = ("kind", *SIDES)


def value_of(side: Side, key: str) -> Any:
    """A setting of the side, or what is usual."""
    return side.settings.get(key, DEFAULTS[key])


def place_of(side: Side) -> Arguments:
    """How the side's RDS is asked. Raises StepError when its settings do not say."""
    wrong = _wrong_in(side.settings)
    if wrong:
        words = "; ".join(f"{key} {reason}" for key, reason in wrong.items())
        raise StepError(f"The database settings of {side.environment} need a correction: {words}.", permanent=True)
    return {key: value_of(side, key) for key in ACCOUNT}


def account_of(side: Side) -> Account:
    """The same, for a client. Raises StepError."""
    return Account.of(place_of(side))


def check_settings(given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a plan's `database`, in words, by key ("standby.instance")."""
    wrong: dict[str, str] = {}
    common = {key: value for key, value in given.items() if key not in ELSEWHERE}
    sides = {}
    for name in SIDES:
        own = given.get(name, {})
        if not isinstance(own, Mapping):
            wrong[name] = "has to be a table of settings"
            continue
        sides[name] = {**common, **own}
        for key, words in _wrong_in(sides[name]).items():
            wrong[key if key in common and key not in own else f"{name}.{key}"] = words
    if len(sides) == len(SIDES) and not wrong:
        wrong |= _wrong_between(sides["primary"], sides["standby"])
    return wrong


def _wrong_between(primary: Mapping[str, Any], standby: Mapping[str, Any]) -> dict[str, str]:
    if (primary["region"], primary["instance"]) == (standby["region"], standby["instance"]):
        return {"standby.instance": "has to be another one than the primary's in the same region"}
    if standby.get("fence") == "stop":
        words = "cannot be stop: the way back needs it running, and RDS takes no snapshot of a stopped instance"
        return {"standby.fence": words}
    return {}


def _wrong_in(given: Mapping[str, Any]) -> dict[str, str]:
    wrong = {key: "is missing" for key in REQUIRED if not given.get(key)}
    wrong |= {key: f"is no setting of it; there are {', '.join(DEFAULTS)}" for key in given.keys() - DEFAULTS.keys()}
    wrong |= {key: words for key in given if key in DEFAULTS and (words := _problem(key, given[key]))}
    if bool(given.get("access_key")) != bool(given.get("secret_key")):
        wrong |= {"secret_key": "belongs together with access_key: give both or neither"}
    for key in ("endpoint_name", "drill_endpoint_name"):
        if given.get(key) and not given.get("zone"):
            wrong["zone"] = f"is missing: {key} is a record in it"
    same = set() if wrong else set(given["security_groups"]) & set(given["fenced_security_groups"])
    if same:
        wrong["fenced_security_groups"] = f"lets people in by {', '.join(sorted(same))}: name groups that let nobody in"
    return wrong


def _problem(key: str, value: Any) -> str:
    usual = DEFAULTS[key]
    if isinstance(usual, float):
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400
        return "" if good else "has to be a number of seconds above 0, at most a day"
    if isinstance(usual, bool):
        return "" if isinstance(value, bool) else "has to be true or false"
    if isinstance(usual, int):
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 86_400
        return "" if good else "has to be a whole number of seconds"
    if isinstance(usual, list):
        kind = Mapping if key == "checks" else str
        good = isinstance(value, list) and all(isinstance(one, kind) and one for one in value)
        return "" if good else "has to be a list"
    if not isinstance(value, str):
        return "has to be text"
    return _problem_of_text(key, value)


def _problem_of_text(key: str, value: str) -> str:
    if not value:
        return ""
    if key in CHOICES:
        return "" if value in CHOICES[key] else f"has to be {' or '.join(CHOICES[key])}"
    if key in SECRETS:
        return problem_with_secret(value)
    if key in URLS:
        return problem_with_url(value)
    if key == "instance" and (not IDENTIFIER.fullmatch(value) or len(value) > LONGEST_INSTANCE):
        return f"has to be letters, digits and single hyphens, at most {LONGEST_INSTANCE}, with a letter first"
    return ""
