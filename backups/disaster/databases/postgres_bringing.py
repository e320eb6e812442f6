"""Bringing data over: a backup into the new side, everything of DR home, and both rehearsed on a scratch server.

What comes back is made beside what is there, compared, and only then takes its place; what it replaces stays under
another name until a person drops it. A worker that dies leaves a database that bears the operation's number.
"""

from collections.abc import Mapping, Sequence

from psycopg import sql

from backups.database_traits import locale_like, take_over
from backups.disaster.databases.postgres_server import asked, newest_row, told
from backups.disaster.databases.postgres_standby import must_be_brought
from backups.engines.dumping import Dump
from backups.engines.fetching import dump_to
from backups.engines.restoring import restore, run_checks
from backups.models import Kind
from backups.programs import Server
from backups.scratch import remove_leftovers
from backups.sources import create, load, restore_into_scratch, scratch_for, source_of
from backups.steps import no_doubt
from controlplane.operations.errors import StepError
from controlplane.operations.registry import Seen, StepContext, StepFunction

RESTORED = "restored"
LONGEST_NAME = 63  # bytes; what is longer is cut off without an error
# Who owns something in the database, or may do something with it.
MENTIONED = """
SELECT coalesce(array_agg(DISTINCT r.rolname::text), '{}') FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
 WHERE s.refclassid = 'pg_authid'::regclass
   AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
LACKING = """
SELECT coalesce(array_agg(one), '{}') FROM unnest(%s::text[]) one WHERE one NOT IN (SELECT rolname FROM pg_roles)
"""


def fresh_name(database: str, operation_id: int) -> str:
    """What an operation brings in, before it takes its place."""
    return f"{database}_dr_{operation_id}"


def replaced_name(database: str, operation_id: int) -> str:
    """What it took the place of."""
    return f"{database}_left_{operation_id}"


def database_exists(server: Server, name: str) -> bool:
    """Whether the server has a database of this name. Raises StepError."""
    return bool(
        asked(server.named("postgres"), "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = %s)", name)[0]
    )


def _make(context: StepContext, server: Server) -> Server:
    """An empty database beside the one in use, with its locale; what an earlier turn left is dropped."""
    fresh = server.named(fresh_name(server.database, context.operation_id))
    admin = server.named("postgres")
    if len(replaced_name(server.database, context.operation_id).encode()) > LONGEST_NAME:
        raise StepError(f"The name {server.database} is too long: a copy beside it could not be told apart.",
                        permanent=True)  # fmt: skip
    context.check()
    with admin.connect(autocommit=True) as connection:
        like = locale_like(connection, server.database)
    told(
        admin,
        sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(fresh.database)),
        sql.SQL("CREATE DATABASE {} TEMPLATE template0{}").format(sql.Identifier(fresh.database), like),
    )
    return fresh


# --- home ---------------------------------------------------------------------------------------------


def _is_brought(context: StepContext, **arguments: object) -> Seen:
    return Seen.DONE if context.checkpoint.get("brought") else Seen.NOT_DONE


def _bring(context: StepContext, *, database: str, environment: str, from_database: str) -> None:
    """A dump in one snapshot, behind the fence: nothing is committed there any more. Then every row is compared."""
    with no_doubt(f"bringing data home to {environment}"):
        source, server = Server.at(from_database), Server.at(database)
        context.mask(source.password, server.password)
        if asked(server, "SELECT pg_is_in_recovery()")[0]:
            raise StepError(f"{server} follows another server, so nothing can be brought into it.", permanent=True)
        fresh = _make(context, server)
        with scratch_for(context.operation_id, context.fence) as scratch:
            path = scratch.folder("home") / "database.dump"
            dump_to(path, source, context)
            restore(path, fresh, context, owners=True)
        rows = _same(context, source, fresh)
        if database_exists(server, server.database):
            take_over(server, server.database, fresh.database, context)
        context.save_checkpoint(brought=fresh.database, rows=rows)
        context.log(f"{sum(rows.values()):,} rows in {len(rows)} tables are the same on both sides")


def _same(context: StepContext, source: Server, fresh: Server) -> dict[str, int]:
    """Counts and hashes of every table on both sides. Raises StepError when anything is different."""
    there, here = _content(context, source), _content(context, fresh)
    different = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if different:
        raise StepError(
            f"Not the same on both sides: {', '.join(different[:5])}. Nothing was switched.", permanent=True
        )
    return {name: rows for name, (rows, _) in there.items()}


def _content(context: StepContext, server: Server) -> dict[str, tuple[int, str]]:
    with Dump(server, "--data-only") as dump:
        for _ in dump.pieces(context.check):
            pass
    objects = dump.archive.large_objects
    tables = {one.item.label: (one.rows, one.hash) for one in dump.archive.tables}
    return {**tables, "large objects": (objects.count, objects.hash)} if objects.count else tables


def _look_home(context: StepContext, *, database: str, environment: str, from_database: str) -> None:
    """Before anybody is locked out: can home take everything in?"""
    source, server = Server.at(from_database), Server.at(database)
    context.mask(*filter(None, [source.password, server.password]))
    if asked(server, "SELECT pg_is_in_recovery()")[0]:
        raise StepError(f"{server} follows another server, so nothing can be brought into it.", permanent=True)
    (roles,) = asked(source, MENTIONED)
    (lacking,) = asked(server, LACKING, roles)
    if lacking:
        raise StepError(f"There is no role {', '.join(lacking)} on {server}, which {source} mentions. Create it there.",
                        permanent=True)  # fmt: skip
    context.log(f"{server} answers, and has every role that {source} mentions")


def _is_swapped(context: StepContext, *, database: str, environment: str) -> Seen:
    server = Server.at(database)
    must_be_brought(context)
    gone = not database_exists(server, fresh_name(server.database, context.operation_id))
    return Seen.DONE if gone and database_exists(server, server.database) else Seen.NOT_DONE


def _swap(context: StepContext, *, database: str, environment: str) -> None:
    """Two renames, either of which may be a worker's last; whoever uses the old one is disconnected, and kept out."""
    with no_doubt(f"letting the new data take their place in {environment}"):
        server = Server.at(database)
        admin = server.named("postgres")
        here, fresh = sql.Identifier(server.database), sql.Identifier(fresh_name(server.database, context.operation_id))
        left = sql.Identifier(replaced_name(server.database, context.operation_id))
        context.check()
        if database_exists(server, server.database):
            told(
                admin,
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(here),
                sql.SQL("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = {}").format(
                    sql.Literal(server.database)
                ),
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(here, left),
            )
        told(admin, sql.SQL("ALTER DATABASE {} RENAME TO {}").format(fresh, here))
        context.log(f"what {server} had is {replaced_name(server.database, context.operation_id)} now")


# --- from a backup ------------------------------------------------------------------------------------


def _is_restored(context: StepContext, *, database: str, environment: str, backup: int) -> Seen:
    return Seen.DONE if context.checkpoint.get("restored") else Seen.NOT_DONE


def _restore(context: StepContext, *, database: str, environment: str, backup: int) -> None:
    """A standby becomes a server of its own first: what it follows is worth less than the backup that was chosen."""
    with no_doubt(f"restoring backup {backup} in {environment}"):
        server = Server.at(database)
        context.mask(server.password)
        if asked(server.named("postgres"), "SELECT pg_is_in_recovery()")[0]:
            context.check()
            asked(server.named("postgres"), "SELECT pg_promote(true, 60)")
        if not context.checkpoint.get("filled"):
            _fill(context, server, backup)
            context.save_checkpoint(filled=True)
        if _is_swapped(context, database=database, environment=environment) is Seen.NOT_DONE:
            _swap(context, database=database, environment=environment)
        context.save_checkpoint(restored=True)


def _fill(context: StepContext, server: Server, backup: int) -> None:
    source = source_of(backup)
    fresh = _make(context, server)
    with scratch_for(context.operation_id, context.fence) as scratch:
        if source.backup.kind == Kind.DATABASE:
            load(source, fresh, scratch, context, owners=True)
        else:
            there = restore_into_scratch(source, scratch, context, moment=None)
            path = scratch.folder("taken-out") / "database.dump"
            dump_to(path, there, context)
            restore(path, fresh, context, owners=True)
    if database_exists(server, server.database):
        take_over(server, server.database, fresh.database, context)


# --- looking, and rehearsing --------------------------------------------------------------------------


def _verify(
    context: StepContext, *, database: str, environment: str, checks: Sequence[Mapping[str, str]], newest: str
) -> None:
    """The newest row, whether it takes writes, and the plan's own checks."""
    server = Server.at(database)
    if newest:
        as_of = newest_row(server, newest)
        context.save_checkpoint(newest=as_of.isoformat())
        context.log(f"the newest row in {environment} is of {as_of:%Y-%m-%d %H:%M:%S} UTC")
    if asked(server, "SELECT pg_is_in_recovery()")[0]:
        raise StepError(f"{server} takes no writes: it still follows another server.", permanent=True)
    with server.connect(autocommit=True) as connection:  # as anybody finds it, not by our own settings
        if connection.execute("SELECT current_setting('default_transaction_read_only')::bool").fetchone() == (True,):
            raise StepError(f"{server} takes no writes: default_transaction_read_only is on.", permanent=True)
    if wrong := run_checks(server, checks):
        raise StepError(f"A check of the plan fails: {'; '.join(wrong)}.", permanent=True)
    context.log(f"{len(checks)} checks of the plan agree" if checks else "the plan has no checks of its own")


def _is_rehearsed(context: StepContext, **arguments: object) -> Seen:
    return Seen.DONE if "rows" in context.checkpoint else Seen.NOT_DONE


def _rehearse(
    context: StepContext, *, database: str, environment: str, backup: int, checks: Sequence[Mapping[str, str]]
) -> None:
    """Every row is read out of the standby, or comes out of the backup, and is there on a server to throw away."""
    with no_doubt("rehearsing the restore"), scratch_for(context.operation_id, context.fence) as scratch:
        if backup:
            there = restore_into_scratch(source_of(backup), scratch, context, moment=None)
        else:
            server = Server.at(database)
            context.mask(server.password)
            scratch.initialise()
            scratch.start(context.wait)
            there = scratch.server(RESTORED)
            create(there)
            path = scratch.folder("copy") / "database.dump"
            dump_to(path, server, context)
            restore(path, there, context)
        if checks and (wrong := run_checks(scratch.reader(there.database), checks)):
            raise StepError(f"A check of the plan fails: {'; '.join(wrong)}.", permanent=True)
        content = _content(context, there)
        rows = {name: count for name, (count, _) in sorted(content.items())}
        context.save_checkpoint(rows=rows, checks=len(checks))
        context.log(f"{sum(rows.values()):,} rows in {len(rows)} tables came up; {len(checks)} checks agree")


def _drop(context: StepContext) -> None:
    """Whatever turn made it."""
    with no_doubt("removing the scratch server"):
        remove_leftovers(lambda operation_id, fence: operation_id != context.operation_id)


STEPS = {
    "postgres.look_home": StepFunction(act=_look_home),
    "postgres.bring": StepFunction(observe=_is_brought, act=_bring),
    "postgres.swap": StepFunction(observe=_is_swapped, act=_swap),
    "postgres.restore": StepFunction(observe=_is_restored, act=_restore),
    "postgres.verify": StepFunction(act=_verify),
    "postgres.rehearse": StepFunction(observe=_is_rehearsed, act=_rehearse),
    "postgres.drop": StepFunction(act=_drop),
}
