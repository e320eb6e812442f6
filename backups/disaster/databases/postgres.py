"""PostgreSQL of our own: a standby that follows is promoted, or a backup of the catalog restored; home by a dump.

The settings, common to both sides or each side's own:

    database   a secret reference to the URL of an administrator of the server, with the database's name in it
    roles      as whom the applications write; the fence takes their right to log in
    newest     SQL that answers with the time of the newest row ("SELECT max(at) FROM orders"); optional
    policies   slugs of the backup policies (of the primary) whose backups may be restored; all, if it says nothing
    rebuild    "embedded": the standby is made anew by who runs it here, after people came home; else a person does

Only the primary of a pair that follows by streaming replication, and its standby, are known to be the same to the last
commit: the fence is proven, the primary's last position is noted, and the standby has to have replayed it before it is
opened. docs/disaster-recovery-postgres.md has what is done by hand.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from backups.disaster.base import NOT_KNOWN, NOT_READY, READY, UNKNOWN, Candidate, Check, Fence, Part, Side
from backups.disaster.databases.postgres_bringing import STEPS as BRINGING
from backups.disaster.databases.postgres_fence import OTHERS
from backups.disaster.databases.postgres_fence import STEPS as FENCING
from backups.disaster.databases.postgres_return import STEPS as RETURNING
from backups.disaster.databases.postgres_server import (
    BEHIND,
    WHO,
    WRITING,
    Standing,
    asked,
    following,
    newest_row,
    server_of,
)
from backups.disaster.databases.postgres_standby import STEPS as STANDING
from backups.models import Backup, Kind
from backups.programs import Server
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, Retry, StepSpec
from controlplane.operations.registry import StepFunction
from environments.secrets import problem_with

GROUP = "Database"
AGAIN = Retry(attempts=5, wait=2.0)
QUICK, LONG = 120.0, 2 * 3600.0
NEWEST = 5  # backups that are offered
LAG_SECONDS = 60.0
EMBEDDED = "embedded"
KNOWN = "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles WHERE rolname = ANY(%s)"
RIGHTS = """
SELECT rolsuper OR (rolcreatedb AND pg_has_role('pg_signal_backend', 'USAGE')
                    AND has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE'))
  FROM pg_roles WHERE rolname = current_user
"""
KEYS = {"database", "roles", "newest", "policies", "rebuild"}


class PostgresDatabase:
    """See `base.Database`."""

    kind = "postgres"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {**FENCING, **STANDING, **BRINGING, **RETURNING}

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `database`, in words, by key."""
        known = ", ".join(sorted(KEYS))
        others = given.keys() - KEYS - {"primary", "standby", "checks", "kind"}
        wrong = dict.fromkeys(others, f"is no setting of it; there are {known}, and the tables primary and standby")
        for name in ("primary", "standby"):
            side = given.get(name, {})
            if not isinstance(side, dict):
                wrong[name] = "has to be a table"
                continue
            whole = {**given, **side}
            wrong |= {f"{name}.{key}": words for key, words in _wrong(whole).items()}
        return wrong

    def candidates(self, source: Side, target: Side) -> list[Candidate]:
        """The standby as it follows, then the newest good backups of the catalog."""
        stand = following(server_of(target))
        found = [] if stand is None else [_standby(target, stand)]
        return sorted([*found, *_backups(source)], key=lambda one: one.as_of, reverse=True)

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Both servers answer with the rights it takes, and the standby is not far behind."""
        return [_rights(source, "source"), _rights(target, "target"), _lag(source, target)]

    def fence(self, source: Side) -> Fence:
        """Nobody logs in as an application any more, and that is seen."""
        arguments = {**_where(source), "roles": list(source.settings.get("roles", []))}
        act = _step("database/fence", f"let no application into the database of {source.environment}", "fence",
                    arguments, QUICK)  # fmt: skip
        prove = _step("database/fenced", f"see that none can write to that of {source.environment}", "fenced",
                      arguments, QUICK)  # fmt: skip
        return Fence((act,), (prove,))

    def restore(self, source: Side, target: Side, candidate: Candidate, *, scratch: str = "") -> Part:
        """The standby is promoted behind the fence, or a backup restored; a drill rehearses it on a scratch server."""
        if scratch:
            return _rehearsal(source, target, candidate)
        where = _where(target)
        if candidate.arguments["from"] == "standby":
            catch_up = _step("database/catch-up", "replay everything that was committed before the fence", "catch_up",
                             {**where, "source": source.environment}, LONG)  # fmt: skip
            promote = _step("database/promote", f"promote the standby in {target.environment}", "promote", where, QUICK)
            opening: tuple[StepSpec, ...] = (catch_up, promote)
        else:
            bring = _step("database/restore", f"restore {candidate.title}", "restore",
                          {**where, "backup": candidate.arguments["backup"]}, LONG)  # fmt: skip
            opening = (bring,)
        change = {"what": f"database in {target.environment}", "from": "takes no writes", "to": candidate.title}
        return Part(open=(*opening, _opened(target)), verify=(_verified(target),), changes=(change,))

    def reverse(self, source: Side, target: Side) -> Part:
        """Everything that the source has, row by row, into the target's database; then both follow again."""
        arguments = {**_where(target), "from_database": source.settings["database"]}
        bring = _step("database/bring", f"bring the data of {source.environment} home, and compare every row", "bring",
                      arguments, LONG)  # fmt: skip
        swap = _step("database/swap", f"let them take the place of what {target.environment} has", "swap",
                     _where(target), QUICK)  # fmt: skip
        again = source.settings.get("rebuild", "")
        follow = _step("database/follow", f"have {source.environment} follow again", "follow",
                       {**_where(source), "rebuild": again}, LONG)  # fmt: skip
        change = {"what": f"database in {target.environment}", "from": "what it had when people left",
                  "to": f"everything from {source.environment}"}  # fmt: skip
        look = _step("database/look-home", f"see that {target.environment} can take everything in", "look_home",
                     arguments, QUICK)  # fmt: skip
        return Part(begin=(look,), wait=(bring,), open=(swap, _opened(target)), verify=(_verified(target),),
                    cleanup=(follow,) if again else (), changes=(change,))  # fmt: skip

    def give_back(self, source: Side, target: Side) -> tuple[StepSpec, ...]:
        """Home has its own database and is closed; then applications are let in again where people are."""
        home, roles = target.environment, {"roles": list(target.settings.get("roles", []))}
        tidy = _step("back/tidy", f"take away what was half brought to {home}", "tidy", _where(target), QUICK)
        close = _step("back/close", f"see that none can write to the database of {home}", "close",
                      {**_where(target), **roles}, QUICK)  # fmt: skip
        reopen = _step("back/reopen", f"let applications into the database of {source.environment} again", "reopen",
                       {**_where(source), "roles": list(source.settings.get("roles", []))}, QUICK)  # fmt: skip
        return tidy, replace(close, risk=f"It is not proven that {home} is closed: two sides may take in data."), reopen

    def newest(self, side: Side) -> Candidate:
        """By the plan's own question; else by the last commit, where the server keeps its time. Raises StepError."""
        server, question = server_of(side), str(side.settings.get("newest", ""))
        title = f"the newest row in {side.environment}"
        if question or following(server) or asked(server, "SHOW track_commit_timestamp")[0] == "on":
            return Candidate("newest", title, newest_row(server, question))
        return Candidate(NOT_KNOWN, title, asked(server, "SELECT clock_timestamp()")[0])


def _wrong(given: Mapping[str, Any]) -> dict[str, str]:
    wrong = {}
    reference = given.get("database", "")
    if not isinstance(reference, str) or not reference:
        wrong["database"] = 'is missing; write a secret reference, as in "file:production/database-url"'
    elif words := problem_with(reference):
        wrong["database"] = words
    for name in ("roles", "policies"):
        value = given.get(name, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            wrong[name] = 'has to be a list of names, as in ["pitchey_app"]'
    if not given.get("roles"):
        wrong.setdefault("roles", "is missing; name the roles as which applications write")
    if given.get("rebuild", "") not in ("", EMBEDDED):
        wrong["rebuild"] = f'has to be "{EMBEDDED}", or is left out'
    if not isinstance(given.get("newest", ""), str):
        wrong["newest"] = "has to be a question in SQL"
    return wrong


def _where(side: Side) -> Arguments:
    """Which server and database a step is about; a reference, never the URL."""
    return {"database": side.settings["database"], "environment": side.environment}


def _step(key: str, title: str, function: str, arguments: Arguments, timeout: float) -> StepSpec:
    return StepSpec(key, title, f"postgres.{function}", arguments, GROUP, timeout, AGAIN)


def _opened(target: Side) -> StepSpec:
    """The fence came along with the data: a standby has the roles of its primary."""
    arguments = {**_where(target), "roles": list(target.settings.get("roles", []))}
    return _step("database/open", f"let applications into the database of {target.environment}", "open", arguments,
                 QUICK)  # fmt: skip


def _verified(target: Side) -> StepSpec:
    arguments = {**_where(target), "checks": list(target.settings.get("checks", [])),
                 "newest": str(target.settings.get("newest", ""))}  # fmt: skip
    return _step("database/verify", "ask for the newest row, and the plan's checks", "verify", arguments, QUICK)


def _rehearsal(source: Side, target: Side, candidate: Candidate) -> Part:
    """Out of the standby, or out of the backup, into a server to throw away: what is in it is read and checked."""
    arguments = {**_where(target), "backup": candidate.arguments.get("backup", 0),
                 "checks": list(target.settings.get("checks", []))}  # fmt: skip
    bring = _step("database/rehearse", f"bring {candidate.title} up on a scratch server, and check it", "rehearse",
                  arguments, LONG)  # fmt: skip
    drop = _step("database/drop", "see that nothing of it is left", "drop", {}, QUICK)
    change = {"what": "scratch database", "from": "nothing", "to": f"{candidate.title}, and away again"}
    return Part(wait=(bring,), cleanup=(drop,), changes=(change,))


# --- what there is ------------------------------------------------------------------------------------


def _standby(target: Side, stand: Standing) -> Candidate:
    title = f"the standby in {target.environment}" + ("" if stand.streams else ", which follows nobody now")
    return Candidate("standby", title, stand.as_of, {"from": "standby"})


def _backups(source: Side) -> list[Candidate]:
    rows = Backup.objects.filter(
        environment__slug=source.environment, kind__in=[Kind.DATABASE, Kind.PITR], state=Backup.State.AVAILABLE
    ).exclude(verdict=Backup.Verdict.FAILED)
    if wanted := source.settings.get("policies"):
        rows = rows.filter(policy_slug__in=wanted)
    found = rows.exclude(policy=None).defer("manifest", "search").order_by("-as_of", "-pk")[:NEWEST]
    return [
        Candidate(f"backup:{one.pk}", f"backup {one.pk} ({one.policy_slug})", one.as_of,
                  {"from": "backup", "backup": one.pk})
        for one in found
    ]  # fmt: skip


# --- readiness ----------------------------------------------------------------------------------------


def _rights(side: Side, which: str) -> Check:
    """A dry run of the fence: is it an administrator, and are the roles there?"""
    title = f"Database of {side.environment}"
    roles = list(side.settings.get("roles", []))
    try:
        server = server_of(side)
        (known,), (others,) = asked(server, KNOWN, roles), asked(server, OTHERS, roles)
        refused = _dry_run(server, roles)
    except StepError as error:
        return Check(f"database-{which}", title, UNKNOWN, str(error))
    missing = sorted(set(roles) - set(known))
    if server.user in roles:
        words = f"We log in as {server.user}, which the fence would lock out: nobody could open it again. Use another."
        return Check(f"database-{which}", title, NOT_READY, words)
    if missing:
        words = f"There is no role {', '.join(missing)}: the fence would hold back nobody."
        return Check(f"database-{which}", title, NOT_READY, words)
    if refused:
        return Check(f"database-{which}", title, NOT_READY, f"The fence was tried and taken back; it fails: {refused}")
    if others:
        words = f"{', '.join(others)} can write too, and the fence does not hold them back. Name them in roles."
        return Check(f"database-{which}", title, NOT_READY, words)
    return Check(f"database-{which}", title, READY, f"answers; {', '.join(roles)} can be fenced")


def _dry_run(server: Server, roles: list[str]) -> str:
    """Why the fence, or opening it, would be refused; "" when it would not. What it does is taken back."""
    if not asked(server, RIGHTS)[0]:
        return f"{server.user} has to be a superuser, or may not end sessions, make databases and promote."
    if asked(server, "SELECT pg_is_in_recovery()")[0]:
        return ""
    try:
        with server.connect(options=WRITING) as connection, connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL lock_timeout = '2s'")
            for role in asked(server, KNOWN, roles)[0]:
                connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
            read_only = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on")
            connection.execute(read_only.format(sql.Identifier(server.database)))
    except psycopg.Error as error:
        return " ".join(str(error).split())
    return ""


def _lag(source: Side, target: Side) -> Check:
    title = "Standby"
    try:
        stand = following(server_of(target))
    except StepError as error:
        return Check("standby", title, UNKNOWN, str(error))
    if stand is None:
        words = f"{target.environment} follows nobody; only backups could be restored. Build the standby anew."
        return Check("standby", title, NOT_READY, words)
    if not stand.streams:
        words = f"It receives nothing since {stand.as_of:%H:%M:%S} UTC. Look whether it reaches the primary."
        return Check("standby", title, NOT_READY, words)
    behind, missing = _behind(stand.as_of), stand.bytes
    try:
        if asked(server_of(source), WHO) != asked(server_of(target), WHO):
            words = f"It is no copy of the server of {source.environment}: it follows another one."
            return Check("standby", title, NOT_READY, words)
        position = asked(server_of(source), "SELECT pg_current_wal_insert_lsn()::text")[0]
        missing = max(0, asked(server_of(target), BEHIND, position)[0])
    except StepError as error:
        return Check("standby", title, UNKNOWN, f"How far it is behind cannot be seen: {error}")
    if behind > LAG_SECONDS:
        return Check("standby", title, NOT_READY, f"It is {behind:.0f} s and {missing:,} bytes behind.")
    return Check("standby", title, READY, f"follows, {behind:.1f} s and {missing:,} bytes behind")


def _behind(as_of: datetime) -> float:
    return max(0.0, (database_time() - as_of).total_seconds())
