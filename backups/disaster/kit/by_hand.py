"""What RUNBOOK.md says of parts that recover.py cannot do: PostgreSQL of one's own, services that are no ECS. Pure."""

import json
from typing import Any

Json = dict[str, Any]

RESTORE = """Restore the newest backup of the catalog with stock tools. A backup is a folder
`ENVIRONMENT/POLICY/TIME-…/` of the backup storage; one without `manifest.json` is none. With its key, on the machine of
the new database:

    age -d -i backup-key.txt database.dump.zst.age | zstd -d > database.dump
    pg_restore --create --no-owner --dbname postgres --jobs 4 database.dump

Where there is a standby that follows the old database, promote it instead, after the fence:

    psql -c "SELECT pg_promote()"
    psql -Atc "SELECT NOT pg_is_in_recovery()"

The second has to say `t`."""

FENCE = """The database: keep everybody from it, then end who is connected. On its machine, as its superuser:

    psql -c "ALTER SYSTEM SET default_transaction_read_only = on" -c "SELECT pg_reload_conf()"
    psql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
      AND pid <> pg_backend_pid()"

Better still, stop it: `pg_ctl stop -m fast`. Proven when nothing answers at its address, or when this says `on`:

    psql -Atc "SHOW default_transaction_read_only" """


def parts(plan: Json) -> list[str]:
    """Which parts of a plan are left to people, in words."""
    found = [] if plan["database"]["kind"] == "rds" else ["the database"]
    if any(not (one["from"]["cluster"] and one["to"]["cluster"]) for one in plan["applications"]):
        found.append("the applications")
    return found if plan["traffic"]["kind"] in ("route53", "flag") else [*found, "the traffic"]


def _settings(part: Json) -> str:
    return "\n".join(
        f"    {line}" for line in json.dumps(part, indent=1, sort_keys=True, ensure_ascii=False).splitlines()
    )


def fencing(database: Json) -> str:
    """Of a database that is not on RDS."""
    return FENCE.rstrip()


def restoring(database: Json) -> str:
    """The same, for its restore; with the plan's own settings."""
    return f"{RESTORE}\n\nThe plan's settings of the database:\n\n{_settings(database)}"


def stopping(application: Json) -> str:
    """Of a service that is not on ECS."""
    place = application["from"]
    named = ", ".join(place.get("instances", [])) or "its instances"
    return (
        f"{application['service']} in {place['environment']} runs by the driver `{place['driver']}`: stop {named} on "
        "their machines. Proven when nothing answers at their addresses and no such process is left."
    )


def starting(application: Json) -> str:
    """The same on the other side."""
    place = application["to"]
    named = ", ".join(place.get("instances", [])) or "its instances"
    return (
        f"{application['service']} in {place['environment']} runs by the driver `{place['driver']}`: start "
        f"{application['count']} ({named}) on their machines, with the release that the old side had."
    )


def switching(traffic: Json) -> str:
    """Of traffic that is switched by something else than Route 53 or a flag."""
    return (
        f"People are sent by `{traffic['kind'] or 'nothing'}`; change it as its settings say:\n\n{_settings(traffic)}"
    )
