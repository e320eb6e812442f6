"""RUNBOOK.md: the plan by hand, in plain words, with the guide's own AWS commands filled in. Pure."""

import json
import shlex
from collections.abc import Iterable
from typing import Any

from backups.disaster.kit import by_hand
from backups.disaster.kit.script.manifest import PLAN

Json = dict[str, Any]
# What they are when they are off, and on.
SWITCHES = {
    "MultiAZ": ("--no-multi-az", "--multi-az"),
    "DeletionProtection": ("--no-deletion-protection", "--deletion-protection"),
    "PubliclyAccessible": ("--no-publicly-accessible", "--publicly-accessible"),
}
OPTIONS = {
    "DBInstanceClass": "--db-instance-class", "DBSubnetGroupName": "--db-subnet-group-name",
    "VpcSecurityGroupIds": "--vpc-security-group-ids", "DBParameterGroupName": "--db-parameter-group-name",
}  # fmt: skip


def runbook_of(plan: Json, public_key: str) -> str:
    """The text, from what plan.json says."""
    chapters = (
        _head(plan, public_key),
        _with_the_script(plan),
        "# By hand\n\nIn this order. Write down what you did, when, and what you saw.",
        _assess(plan),
        _fence(plan),
        _database(plan),
        _applications(plan),
        _verify(plan),
        _traffic(plan),
        _afterwards(plan),
    )
    return "\n\n".join(chapters) + "\n"


def _head(plan: Json, public_key: str) -> str:
    source, target = plan["from"]["environment"], plan["to"]["environment"]
    told = "\n".join(f"- {one}" for one in plan["tell"]) or "- nobody is named in the plan; call who is on call"
    return f"""# Recovery kit: {plan["plan"]["name"]}

For the day on which **{source}** is gone and the dashboard with it. It moves people to **{target}**. Made
{plan["made_at"]}. Promises: served again within {_hours(plan["plan"]["rto_seconds"])} (RTO), with at most
{_hours(plan["plan"]["rpo_seconds"])} of changes lost (RPO).

## Who to call

{told}

## Is this kit what was signed?

    python3 recover.py --verify
    sha256sum -c MANIFEST

The public key is

    {public_key}

Whoever can change a kit can print another key here: compare it with the one on paper, or with what the control plane
says (`manage.py recovery_kit key`)."""


def _hours(seconds: int) -> str:
    hours, rest = divmod(int(seconds), 3600)
    parts = [f"{hours} h" if hours else "", f"{rest // 60} min" if rest or not hours else ""]
    return " ".join(part for part in parts if part)


def _with_the_script(plan: Json) -> str:
    names = sorted({name for name in variables_of(plan) if name})
    keys = "AWS credentials come from where the AWS tools find them: variables, a profile, or the role of a machine."
    if names:
        keys += f" Where they are set, these variables count instead: {', '.join(f'`{name}`' for name in names)}."
    return f"""## With the script

Python 3.11 and boto3 (`pip install boto3`), on any Linux or macOS machine that reaches {_regions(plan)}. {keys}

    python3 recover.py --dry-run                  # looks at every step, changes nothing
    python3 recover.py --name "Your name"         # carries it out

It asks before it begins, and when the old side cannot be proven to be fenced. Everything goes into `journal.jsonl`.
Killed or stopped, start it again in the same folder: it goes on where it was. {_limits(plan)}"""


def variables_of(value: Any) -> Iterable[str]:
    """The names of variables for keys, wherever they stand in the plan."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name.endswith("_env"):
                yield str(one)
            else:
                yield from variables_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from variables_of(one)


def _regions(plan: Json) -> str:
    region = plan["database"].get("to", {}).get("region", "")
    return f"AWS in {region}" if region else "the other side"


def _limits(plan: Json) -> str:
    parts = by_hand.parts(plan)
    return f"It cannot do {' and '.join(parts)}: it stops there and asks; see below." if parts else ""


def command(*words: str) -> str:
    """A command with an option a line, as the guide writes them: words after the first option belong to one."""
    head: list[str] = []
    options: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            options.append([word])
        else:
            (options[-1] if options else head).append(shlex.quote(word))
    lines = [" ".join(one) for one in (head, *options)]
    return "    " + " \\\n      ".join(lines)


def _aws(place: Json, service: str, action: str, *options: str) -> str:
    endpoint = ("--endpoint-url", place["endpoint_url"]) if place.get("endpoint_url") else ()
    region = ("--region", place["region"]) if place.get("region") else ()
    return command("aws", service, *action.split(), *region, *endpoint, *options)


def _assess(plan: Json) -> str:
    asks = (
        "\n".join(f"    curl -f {shlex.quote(url)}" for url in plan["from"]["health"]) or "    (no health URL is known)"
    )
    return f"""## 1. Assess

{asks}

A probe that fails is no reason by itself. Ask a second person, from another network. Is it worth leaving
{plan["from"]["environment"]}? Write down who decided, and why."""


def _fence(plan: Json) -> str:
    lines = [
        f"## 2. Fence {plan['from']['environment']}",
        "So that it cannot take writes that will be missing later. If it cannot be reached, go on only when a named "
        "person says in writing why that may be risked.",
    ]
    for one in plan["applications"]:
        place = one["from"]
        if not place["cluster"]:
            lines.append(by_hand.stopping(one))
            continue
        where = ("--cluster", place["cluster"])
        lines.append(
            _aws(place, "ecs", "update-service", *where, "--service", place["service"], "--desired-count", "0")
        )
        lines.append(f"Proven when this says 0 and 0, and lists no task ({one['service']}):")
        lines.append(_aws(place, "ecs", "describe-services", *where, "--services", place["service"], "--query",
                          "services[0].[runningCount,pendingCount]"))  # fmt: skip
        lines.append(_aws(place, "ecs", "list-tasks", *where, "--service-name", place["service"]))
    lines += _fence_database(plan["database"])
    return "\n\n".join(lines)


def _fence_database(database: Json) -> list[str]:
    if database["kind"] != "rds":
        return [by_hand.fencing(database)]
    place = database["from"]
    which = ("--db-instance-identifier", place["instance"])
    show = _aws(place, "rds", "describe-db-instances", *which, "--query",
                "DBInstances[0].[DBInstanceStatus,VpcSecurityGroups]")  # fmt: skip
    if place["fence"] == "stop":
        return ["The database:", _aws(place, "rds", "stop-db-instance", *which), "Proven when it says `stopped`:", show]
    groups = place["fenced_groups"]
    change = _aws(
        place, "rds", "modify-db-instance", *which, "--vpc-security-group-ids", *groups, "--apply-immediately"
    )
    restart = _aws(place, "rds", "reboot-db-instance", *which)
    return [
        "The database, into groups that let nobody in:",
        change,
        f"When {', '.join(groups)} is all there is, and active, restart it: open connections outlive the change.",
        show,
        restart,
        "Proven when it is `available` again after the restart, behind those groups alone.",
    ]


def _database(plan: Json) -> str:
    database = plan["database"]
    lines = [f"## 3. Database in {plan['to']['environment']}"]
    known = "\n".join(f"- {one['title']}, as of {one['as_of']}" for one in plan["known_candidates"])
    why = plan["why_no_candidates"] or "nothing was found"
    lines.append(f"When this kit was made, there was:\n\n{known}" if known else f"When this kit was made: {why}.")
    if database["kind"] != "rds":
        return "\n\n".join([*lines, by_hand.restoring(database)])
    place, old = database["to"], database["from"]["instance"]
    which = ("--db-instance-identifier", place["instance"])
    lines += [
        f"Is {place['instance']} a replica? Then promote it, after the fence, and not before:",
        _aws(place, "rds", "promote-read-replica", *which),
        "Otherwise take the newest snapshot:",
        _aws(place, "rds", "describe-db-snapshots", "--db-instance-identifier", old, "--query",
             "sort_by(DBSnapshots[?Status==`available`],&SnapshotCreateTime)[-1].DBSnapshotIdentifier"),
        _aws(place, "rds", "restore-db-instance-from-db-snapshot", *which, "--db-snapshot-identifier",
             "NEWEST_SNAPSHOT", *_restore_options(place["options"])),
        "Either way, wait until it is there (minutes to an hour):",
        _aws(place, "rds", "wait db-instance-available", *which),
        *_opening(place, which),
    ]  # fmt: skip
    return "\n\n".join(lines)


def _opening(place: Json, which: tuple[str, str]) -> Iterable[str]:
    if place["groups"]:
        yield "Let the applications in:"
        yield _aws(place, "rds", "modify-db-instance", *which, "--vpc-security-group-ids", *place["groups"],
                   "--apply-immediately")  # fmt: skip
    if place["endpoint"]:
        yield (
            f"Point {place['endpoint']['name']} (CNAME, in zone {place['endpoint']['zone']}) to its address, as in "
            '"Send people there":'
        )
        yield _aws(place, "rds", "describe-db-instances", *which, "--query", "DBInstances[0].Endpoint.Address")


def _restore_options(options: Json) -> Iterable[str]:
    for name, value in options.items():
        if name in SWITCHES:
            yield SWITCHES[name][bool(value)]
        elif name in OPTIONS:
            yield OPTIONS[name]
            yield from value if isinstance(value, list) else [str(value)]


def _applications(plan: Json) -> str:
    lines = [f"## 4. Applications in {plan['to']['environment']}"]
    if plan["configuration"]:
        named = "\n".join(f"- `{name}`: {json.dumps(value)}" for name, value in sorted(plan["configuration"].items()))
        lines.append(f"Their variables have to become (secrets are where their references point):\n\n{named}")
    for one in plan["applications"]:
        place = one["to"]
        if not place["cluster"]:
            lines.append(by_hand.starting(one))
            continue
        where = ("--cluster", place["cluster"])
        lines.append(_aws(place, "ecs", "update-service", *where, "--service", place["service"], "--desired-count",
                          str(one["count"])))  # fmt: skip
        lines.append(_aws(place, "ecs", "wait services-stable", *where, "--services", place["service"]))
    return "\n\n".join(lines)


def _verify(plan: Json) -> str:
    asks = "\n".join(f"    until curl -f {shlex.quote(url)}; do sleep 10; done" for url in plan["to"]["health"])
    checks = "\n".join(f"- {one.get('name', '')}: `{one.get('sql', '')}`" for one in plan["checks"])
    found = f"\n\nIn the database, each of these has to say true:\n\n{checks}" if checks else ""
    return f"## 5. Verify\n\n{asks or '    (no health URL is known)'}{found}"


def _traffic(plan: Json) -> str:
    traffic = plan["traffic"]
    lines = ["## 6. Send people there"]
    if traffic["kind"] == "route53":
        changes = [{"Action": "UPSERT", "ResourceRecordSet": one} for one in traffic["records"]]
        batch = json.dumps({"Comment": "recovery by hand", "Changes": changes}, indent=1)
        lines.append(
            "\n".join(f"    {line}" for line in ("cat > dr-dns-change.json <<'END'", *batch.splitlines(), "END"))
        )
        place = {**traffic["place"], "region": ""}
        lines.append(_aws(place, "route53", "change-resource-record-sets", "--hosted-zone-id", traffic["zone"],
                          "--change-batch", "file://dr-dns-change.json"))  # fmt: skip
        lines.append("Wait until the change that it names is INSYNC:")
        lines.append(_aws(place, "route53", "get-change", "--id", "CHANGE"))
    elif traffic["kind"] == "flag":
        lines.append(_flag(traffic))
        lines.append("Health checks see it within a minute, and DNS follows by itself.")
    else:
        lines.append(by_hand.switching(traffic))
    if plan["outside"]:
        lines.append(
            f"From outside, not from inside the company's network:\n\n    curl -f {shlex.quote(plan['outside'])}"
        )
    return "\n\n".join(lines)


def _flag(flag: Json) -> str:
    """The flag's one command."""
    if flag["by"] == "alarm":
        return _aws(flag["place"], "cloudwatch", "set-alarm-state", "--alarm-name", flag["name"], "--state-value",
                    "ALARM" if flag["raised"] else "OK", "--state-reason", "recovery by hand")  # fmt: skip
    where = ("--bucket", flag["bucket"], "--key", flag["name"])
    if flag["raised"]:
        return _aws(flag["place"], "s3api", "put-object", *where, "--body", PLAN)
    return _aws(flag["place"], "s3api", "delete-object", *where)


def _afterwards(plan: Json) -> str:
    return f"""## 7. Afterwards

- Tell everybody named above, and the customers.
- Keep {plan["from"]["environment"]} fenced: when it comes back, nothing there may take writes.
- Delete nothing there: what is missing here is still in its database.
- Keep `journal.jsonl`. Once there is a control plane again, `manage.py recovery_kit import journal.jsonl --plan
  {plan["plan"]["slug"]}` brings it into the history, and tells the control plane which side serves.
- The way home is a failback by the control plane, not this kit."""
