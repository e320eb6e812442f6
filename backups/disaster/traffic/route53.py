"""Sending people to a side by records of Amazon Route 53: one change set, waited for until all name servers have it.

It needs Route 53's control plane, which is in us-east-1. `flag` switches without it and is what AWS recommends;
docs/disaster-recovery-aws.md says how to set that up. With `weighted` both sides have a record of each name, and the
switch moves the whole weight.
"""

from collections.abc import Callable, Mapping
from typing import Any

from backups.disaster.base import NOT_READY, READY, UNKNOWN, Check, Fence, Part, Side
from backups.disaster.patience import mask, noted, patiently
from backups.disaster.traffic.zone import ACCOUNT, REGION, Record, Zone, are_there, dotted, has_spread, same, upsert
from backups.disaster.traffic.zone import place_of as place_in
from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, Retry, StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, pending
from environments.addresses import problem_with as problem_with_url
from environments.aws import Account
from environments.aws_checks import Finding, permissions
from environments.secrets import problem_with as problem_with_secret

GROUP = "Traffic"
ATTEMPTS = 8  # Route 53 takes five requests a second, of everybody in the account
CALL, SPREAD = 300.0, 900.0
FULL = 100  # the weight of the side that serves
DEFAULTS: Arguments = {
    **ACCOUNT,
    "zone": "",
    "names": [],
    "type": "A",
    "ttl": 60,
    "max_ttl": 60,  # seconds that somebody may go on to the old side
    "weighted": False,
    "values": [],  # of the side: addresses, or one name for a CNAME
    "alias": {},  # of the side, instead: {"zone", "name", "evaluate"}
    "drill_name": "",  # "" for none: a drill's addresses are asked directly
    "url": "",
    "drill_url": "",
    "retry_seconds": 2.0,
}
TYPES = ("A", "AAAA", "CNAME")
SIDES = ("primary", "standby")


class Route53Traffic:
    """See `base.Traffic`."""

    kind = "route53"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = STEPS

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `traffic`, in words, by key."""
        return check_sides(given, _wrong_in)

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Could the records be changed now, and would people follow soon? Never raises."""
        looks: list[tuple[str, str, Callable[[], Finding]]] = [
            ("records", "the records", lambda: _where_they_point(source)),
            ("ttl", "how long resolvers keep them", lambda: _how_long(source)),
            ("permissions", "what the control plane may do", lambda: _allowed(target)),
        ]
        return [check_of(f"traffic/{key}", title, ask) for key, title, ask in looks]

    def withdraw(self, source: Side) -> Fence:
        """Nothing: the switch takes the old side out. Without any weight Route 53 would send people to both."""
        return Fence()

    def switch(self, source: Side, target: Side, *, drill: str = "") -> Part:
        """Point all names to the target, or a drill's own name."""
        name = _of(target, "drill_name")
        if drill and not name:
            return Part()
        records = records_of(target, [name]) if drill else _switched(source, target)
        arguments: Arguments = {"dns": place_in(target.settings), "records": records}
        names = ", ".join(sorted({one["Name"].rstrip(".") for one in records}))
        change = _spec(target, "change", f"point {names} to {target.environment}", CALL, **arguments)
        spread = _spec(target, "spread", "wait until all name servers have it", SPREAD, **arguments)
        answer = _spec(target, "answer", f"ask for {names}", SPREAD, **arguments)
        away = _spec(target, "remove", f"take {names} away", CALL, **arguments)
        row = {"what": names, "from": "as it is" if drill else source.environment, "to": target.environment}
        return Part((change,), (spread,), verify=(answer,), cleanup=(away,) if drill else (), changes=(row,))


# --- shared with `flag` ---------------------------------------------------------------------------------


def check_sides(given: Mapping[str, Any], wrong_in: Callable[[Mapping[str, Any]], dict[str, str]]) -> dict[str, str]:
    """What is wrong with the settings of both sides, each over what is common, by key ("standby.values")."""
    common = {key: value for key, value in given.items() if key not in ("kind", *SIDES)}
    wrong: dict[str, str] = {}
    for name in SIDES:
        own = given.get(name, {})
        if not isinstance(own, Mapping):
            wrong[name] = "has to be a table of settings"
            continue
        for key, words in wrong_in({**common, **own}).items():
            wrong[key if key in common and key not in own else f"{name}.{key}"] = words
    return wrong


def problem_of(key: str, value: Any, usual: Any) -> str:
    """What is wrong with one value, by the kind of what is usual; "" when nothing is."""
    if isinstance(usual, bool):
        return "" if isinstance(value, bool) else "has to be true or false"
    if isinstance(usual, int | float):
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400
        whole = isinstance(usual, float) or isinstance(value, int)
        return "" if good and whole else "has to be a number of seconds above 0, at most a day"
    if isinstance(usual, list):
        good = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
        return "" if good else "has to be a list of texts"
    if isinstance(usual, dict):
        return "" if isinstance(value, Mapping) else "has to be a table"
    if not isinstance(value, str):
        return "has to be text"
    if value and key in ("access_key", "secret_key"):
        return problem_with_secret(value)
    if value and key in ("endpoint_url", "url", "drill_url"):
        return problem_with_url(value)
    return ""


def check_of(key: str, title: str, ask: Callable[[], Finding]) -> Check:
    """A check from what was found; what cannot be asked is unknown."""
    try:
        found = ask()
    except StepError as error:
        found = Finding(None, str(error))
    outcome = UNKNOWN if found.holds is None else READY if found.holds else NOT_READY
    return Check(key, title, outcome, found.words)


# --- settings and records -------------------------------------------------------------------------------


def _of(side: Side, key: str) -> Any:
    return side.settings.get(key, DEFAULTS[key])


def _wrong_in(given: Mapping[str, Any]) -> dict[str, str]:
    wrong = {key: f"is no setting of it; there are {', '.join(DEFAULTS)}" for key in given.keys() - DEFAULTS.keys()}
    wrong |= {key: "is missing" for key in ("zone", "names") if not given.get(key)}
    known = {key: value for key, value in given.items() if key in DEFAULTS}
    wrong |= {key: words for key, value in known.items() if (words := problem_of(key, value, DEFAULTS[key]))}
    if wrong:
        return wrong
    kind, values, alias = given.get("type", "A"), given.get("values", []), given.get("alias", {})
    if kind not in TYPES:
        wrong["type"] = f"has to be {', '.join(TYPES)}"
    if bool(values) == bool(alias):
        wrong["values"] = "is where people are sent on this side: give either values or an alias"
    elif kind == "CNAME" and (alias or len(values) != 1):
        wrong["values"] = "has to be one name for a CNAME"
    elif alias and not all(isinstance(alias.get(key), str) and alias[key] for key in ("zone", "name")):
        wrong["alias"] = 'has to be a table with "zone" and "name"'
    if bool(given.get("access_key")) != bool(given.get("secret_key")):
        wrong |= {"secret_key": "belongs together with access_key: give both or neither"}
    return wrong


def records_of(side: Side, names: list[str], weight: int | None = None) -> list[Record]:
    """The records that send people to the side. Raises StepError when its settings do not say where."""
    if wrong := _wrong_in(side.settings):
        words = "; ".join(f"{key} {reason}" for key, reason in wrong.items())
        raise StepError(f"The traffic settings of {side.environment} need a correction: {words}.", permanent=True)
    alias = _of(side, "alias")
    content: Record = {"TTL": _of(side, "ttl"), "ResourceRecords": [{"Value": one} for one in _of(side, "values")]}
    if alias:
        target = {"HostedZoneId": alias["zone"], "DNSName": dotted(alias["name"])}
        content = {"AliasTarget": {**target, "EvaluateTargetHealth": bool(alias.get("evaluate", False))}}
    if weight is not None:
        content |= {"SetIdentifier": side.environment, "Weight": weight}
    return [{"Name": dotted(name), "Type": _of(side, "type"), **content} for name in names]


def _switched(source: Side, target: Side) -> list[Record]:
    names = list(_of(target, "names"))
    if not _of(target, "weighted"):
        return records_of(target, names)
    return [*records_of(target, names, FULL), *records_of(source, names, 0)]


def _spec(side: Side, key: str, title: str, seconds: float, **arguments: Any) -> StepSpec:
    retry = Retry(ATTEMPTS, _of(side, "retry_seconds"))
    return StepSpec(f"traffic/{key}", title, f"route53.{key}", arguments, GROUP, seconds, retry)


# --- readiness ------------------------------------------------------------------------------------------


def _zone(side: Side) -> Zone:
    return Zone.at(place_in(side.settings))


def _serving(side: Side) -> list[Record]:
    return records_of(side, list(_of(side, "names")), FULL if _of(side, "weighted") else None)


def _where_they_point(source: Side) -> Finding:
    zone = _zone(source)
    astray = [
        record["Name"].rstrip(".")
        for record in _serving(source)
        if not any(_same_place(one, record) for one in zone.records(record["Name"]))
    ]
    if astray:
        return Finding(False, f"{', '.join(astray)} does not point to {source.environment}. Look at the zone.")
    return Finding(True, f"{', '.join(_of(source, 'names'))} point to {source.environment}.")


def _same_place(one: Record, wanted: Record) -> bool:
    return same({**one, "TTL": 0}, {**wanted, "TTL": 0})


def _how_long(source: Side) -> Finding:
    zone, most = _zone(source), _of(source, "max_ttl")
    kept = [one.get("TTL", 60) for name in _of(source, "names") for one in zone.records(name)]
    if not kept:
        return Finding(None, "There are no records yet.")
    words = f"Resolvers keep them for {max(kept)} s, at most {most} s are wanted"
    return Finding(max(kept) <= most, f"{words}." if max(kept) <= most else f"{words}: lower the TTL a day ahead.")


def _allowed(target: Side) -> Finding:
    account = Account.of({**place_in(target.settings), "region": REGION})
    return permissions(account, ("route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets",
                                 "route53:GetChange", "route53:TestDNSAnswer"))  # fmt: skip


# --- steps ----------------------------------------------------------------------------------------------


def _at(context: StepContext, dns: Arguments) -> Zone:
    zone = Zone.at(dns)
    mask(context, zone.account.keys())
    return zone


def _is_changed(context: StepContext, *, dns: Arguments, records: list[Record]) -> Seen:
    if not are_there(_at(context, dns), records):
        return Seen.NOT_DONE
    context.log("the records are as they have to be")
    return Seen.DONE


def _change(context: StepContext, *, dns: Arguments, records: list[Record]) -> None:
    upsert(context, _at(context, dns), records)


def _nothing(context: StepContext, **arguments: Any) -> None:
    """Waiting has no effect."""


def _has_spread(context: StepContext, *, dns: Arguments, records: list[Record]) -> Verdict:
    change = noted(context, "route53.change", "change")
    return patiently(context, lambda: has_spread(_at(context, dns), change, records))


def _is_answered(context: StepContext, *, dns: Arguments, records: list[Record]) -> Verdict:
    """What the zone has, and what its name servers answer. An answer through an alias is only seen to be one."""

    def look() -> Verdict:
        zone = _at(context, dns)
        if not are_there(zone, records):
            return pending("somebody changed the records meanwhile")
        return has_spread(zone, "", records)

    return patiently(context, look)


def _is_removed(context: StepContext, *, dns: Arguments, records: list[Record]) -> Seen:
    zone = _at(context, dns)
    return Seen.NOT_DONE if _found(zone, records) else Seen.DONE


def _found(zone: Zone, records: list[Record]) -> list[Record]:
    """Those of ours that the zone still has; what somebody else put there under the name stays."""
    return [one for record in records for one in zone.records(record["Name"]) if same(one, record)]


def _remove(context: StepContext, *, dns: Arguments, records: list[Record]) -> None:
    zone = _at(context, dns)
    context.check()
    zone.change([("DELETE", one) for one in _found(zone, records)])
    context.log("took the records of the drill away")


STEPS = {
    "route53.change": StepFunction(observe=_is_changed, act=_change),
    "route53.spread": StepFunction(act=_nothing, verify=_has_spread, poll=0.0),
    "route53.answer": StepFunction(act=_nothing, verify=_is_answered, poll=0.0),
    "route53.remove": StepFunction(observe=_is_removed, act=_remove),
}
