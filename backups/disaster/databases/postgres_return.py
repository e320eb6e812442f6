"""A way home that fails behind its fence: home is as it was and closed, and people are let in again where they were."""

from collections.abc import Sequence

from psycopg import sql

from backups.disaster.databases.postgres_bringing import database_exists, fresh_name, replaced_name
from backups.disaster.databases.postgres_fence import fence, is_open, let_in, why_open
from backups.disaster.databases.postgres_server import asked, told
from backups.disaster.patience import was_begun
from backups.programs import Server
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.registry import Seen, StepContext, StepFunction

OPENED = "database/open"  # the key of the step that lets applications in at home


def _tidy(context: StepContext, *, database: str, environment: str) -> None:
    """What was half brought, or half put in its place, is taken back. A server that does not answer keeps it."""
    server = Server.at(database)
    admin, number = server.named("postgres"), context.operation_id
    context.mask(*filter(None, [server.password]))
    here, left = sql.Identifier(server.database), sql.Identifier(replaced_name(server.database, number))
    fresh = sql.Identifier(fresh_name(server.database, number))
    try:
        if not database_exists(server, server.database) and database_exists(
            server, replaced_name(server.database, number)
        ):
            context.check()
            told(admin, sql.SQL("ALTER DATABASE {} RENAME TO {}").format(left, here))
            context.log(f"{server} has its name again")
        context.check()
        told(
            admin,
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(here),
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(fresh),
        )
    except StepError as error:
        context.log(f"what was half brought to {environment} stays there: {error}", level="warning")


def _close(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> None:
    """Seen, where this operation opened it; a server that it never opened is as closed as it was."""
    server = Server.at(database)
    context.mask(*filter(None, [server.password]))
    try:
        if why_open(server, roles):
            context.check()
            fence(server, roles)
        why = why_open(server, roles)
    except StepError as error:
        if not was_begun(context, OPENED):
            context.log(f"{environment} was never opened, and does not answer now: {error}", level="warning")
            return
        words = f"It was opened, and it is not proven that nobody writes to the database of {environment}: {error}."
        raise Unknown(f"{words} Try again, or make sure of it by other means.") from error
    if why:
        raise StepError(f"The database of {environment} is not closed: {why}.")
    context.log(f"nobody can write to {server}")


def _is_open_again(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> Seen:
    return Seen.DONE if is_open(Server.at(database), roles) else Seen.NOT_DONE


def _reopen(context: StepContext, *, database: str, environment: str, roles: Sequence[str]) -> None:
    server = Server.at(database)
    context.mask(*filter(None, [server.password]))
    if asked(server, "SELECT pg_is_in_recovery()")[0]:
        raise StepError(f"{server} follows another server: nobody can be let in there.", permanent=True)
    context.check()
    let_in(server, roles)
    context.log(f"{', '.join(roles)} can log in to {server} again")


STEPS = {
    "postgres.tidy": StepFunction(act=_tidy),
    "postgres.close": StepFunction(act=_close),
    "postgres.reopen": StepFunction(observe=_is_open_again, act=_reopen),
}
