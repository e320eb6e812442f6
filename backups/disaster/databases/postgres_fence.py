"""The fence of a PostgreSQL database: applications cannot log in, nobody writes by default, and that is seen.

It stands in the server's own catalog, so a server that is restarted comes back fenced.
"""

from collections.abc import Sequence

from psycopg import sql

from backups.disaster.databases.postgres_server import asked, told
from backups.disaster.databases.postgres_standby import must_be_brought
from backups.programs import Server
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.registry import Seen, StepContext, StepFunction

END_MS = 5000
OPEN_ROLES = "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles WHERE rolname = ANY(%s) AND rolcanlogin"
# Others than applications: what is read-only by default holds for their new sessions only, and whoever wants to write
# says so. Superusers are people, and not held back.
OTHERS = """
SELECT coalesce(array_agg(r.rolname::text ORDER BY 1), '{}') FROM pg_roles r
 WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> current_user AND r.rolname <> ALL(%s)
   AND has_database_privilege(r.oid, current_database(), 'CONNECT')
   AND EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                  AND has_schema_privilege(r.oid, n.oid, 'USAGE')
                  AND has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
"""
# Sessions that began before the fence, and what two-phase commit has left for later.
THEIRS = """
pid <> pg_backend_pid() AND (usename = ANY({roles}) OR datname = {database} AND backend_type = 'client backend'
    AND usename <> current_user AND NOT EXISTS (SELECT 1 FROM pg_roles WHERE oid = usesysid AND rolsuper))
"""
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE " + THEIRS.format(roles="%s", database="%s")  # noqa: S608
PREPARED = "SELECT count(*) FROM pg_prepared_xacts WHERE database = %s"
# A commit of ours that waits for the disk: everybody's before it is there too, also what was told to be committed
# without waiting (synchronous_commit = off).
MARK = "SELECT pg_logical_emit_message(true, 'controlplane', 'fenced')"
POSITION = "SELECT pg_current_wal_flush_lsn()::text"
READ_ONLY = """
SELECT EXISTS (
    SELECT 1 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = %s AND s.setrole = 0 AND 'default_transaction_read_only=on' = ANY(s.setconfig)
)
"""


def _is_fenced(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> Seen:
    try:
        return Seen.NOT_DONE if why_open(Server.at(database), roles) else Seen.DONE
    except StepError:
        return Seen.NOT_DONE  # `act` says that it cannot be reached


def _fence(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> None:
    server = Server.at(database)
    context.mask(server.password)
    try:
        asked(server, "SELECT 1")
    except StepError as error:
        context.log(f"The database of {environment} cannot be fenced now: {error}", level="warning")
        return
    if asked(server, "SELECT pg_is_in_recovery()")[0]:
        context.log(f"{server} follows another server: nobody can write to it")
        return
    context.check()
    fence(server, roles)
    context.log(f"{', '.join(roles)} cannot log in to {server} any more")


def fence(server: Server, roles: Sequence[str]) -> None:
    """Take the roles' right to log in, make the database read-only by default, end all sessions but superusers'.

    Raises StepError: for good when we are one of the roles, as nobody could open the fence again.
    """
    name = sql.Identifier(server.database)
    if server.user in roles:
        raise StepError(
            f"We log in to {server} as {server.user}, which is one of the roles to be fenced: nobody could open it "
            "again. Give the plan the URL of an administrator of its own.",
            permanent=True,
        )
    told(
        server,
        *(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)) for role in roles),
        sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name),
        _ending(server, roles),
    )


def _ending(server: Server, roles: Sequence[str]) -> sql.Composed:
    whose = sql.SQL(THEIRS).format(roles=sql.Literal(list(roles)), database=sql.Literal(server.database))
    return sql.SQL("SELECT pg_terminate_backend(pid, {}) FROM pg_stat_activity WHERE {}").format(
        sql.Literal(END_MS), whose
    )


def why_open(server: Server, roles: Sequence[str]) -> str:
    """Why applications may still write, in words; "" when they cannot. Raises StepError when it cannot be asked."""
    if asked(server, "SELECT pg_is_in_recovery()")[0]:
        return ""
    (may,) = asked(server, OPEN_ROLES, list(roles))
    if may:
        return f"{', '.join(may)} can still log in"
    if not asked(server, READ_ONLY, server.database)[0]:
        return "the database still takes writes by default"
    (others,) = asked(server, OTHERS, list(roles))
    if others:
        return f"{', '.join(others)} can log in and write too; name them in the plan's roles, or take their rights"
    (sessions,) = asked(server, SESSIONS, list(roles), server.database)
    (prepared,) = asked(server, PREPARED, server.database)
    if sessions:
        return f"{sessions} sessions of applications are still there"
    return f"{prepared} prepared transactions may still be committed" if prepared else ""


def _prove(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> None:
    """See it, and note up to where the old side had come: the new one must have all of that before it opens.

    A side that could not be reached before is fenced now: whoever tries again wants just that.
    """
    server = Server.at(database)
    try:
        if asked(server, "SELECT pg_is_in_recovery()")[0]:
            return
        if why_open(server, roles):
            context.check()
            fence(server, roles)  # also whoever was just coming in while the others were ended
        why = why_open(server, roles)
        if why:
            raise StepError(f"The database of {environment} is not fenced: {why}.")
        asked(server, MARK)
        (position,) = asked(server, POSITION)
    except StepError as error:
        if "cannot be reached" not in str(error):
            raise
        words = f"It is not proven that nobody writes to the database of {environment}: {error}."
        raise Unknown(f"{words} Try again, or make sure of it by other means.") from error
    context.save_checkpoint(position=position, roles=list(roles))
    context.log(f"nobody can write to {server}; its last position is {position}")


def is_open(server: Server, roles: Sequence[str]) -> bool:
    """Whether applications can log in and write. Raises StepError when it cannot be asked."""
    (may,) = asked(server, OPEN_ROLES, list(roles))
    return set(may) == set(roles) and not asked(server, READ_ONLY, server.database)[0]


def let_in(server: Server, roles: Sequence[str]) -> None:
    """Take the fence away. Raises StepError."""
    told(
        server,
        sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(sql.Identifier(server.database)),
        *(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)) for role in roles),
    )


def _is_open(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> Seen:
    return Seen.DONE if is_open(Server.at(database), roles) else Seen.NOT_DONE


def _open(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> None:
    server = Server.at(database)
    must_be_brought(context)
    context.check()
    let_in(server, roles)
    context.log(f"{', '.join(roles)} can log in to {server}")


STEPS = {
    "postgres.fence": StepFunction(observe=_is_fenced, act=_fence),
    "postgres.fenced": StepFunction(act=_prove),
    "postgres.open": StepFunction(observe=_is_open, act=_open),
}
