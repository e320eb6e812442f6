"""What the steps of a restore do. A database in use is replaced only by one that is known to be good."""

import socket
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from psycopg import sql
from psycopg.errors import Error as DatabaseError

from backups.database_traits import locale_like, take_over
from backups.engines.fetching import dump_to
from backups.engines.restoring import compare, restore
from backups.engines.sources import folder_of
from backups.models import Kind, ScratchDatabase
from backups.plans import bucket_named
from backups.programs import Server
from backups.restoring_files import (
    restore_configuration,
    restore_files,
    restore_files_to_bucket,
    restore_image,
)
from backups.scratch import Scratch, remove_leftovers
from backups.sources import Source, load, moment_of, restore_into_scratch, scratch_for, source_of
from backups.steps import no_doubt
from backups.storage.s3 import S3Kind
from controlplane.audit.record import SYSTEM, record
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, passed
from controlplane.operations.states import EXECUTING

SCRATCH_LIVES = timedelta(hours=4)
RENAME = sql.SQL("ALTER DATABASE {} RENAME TO {}")


# --- into a scratch database that a person looks into -------------------------------------------------


def _observe_scratch(context: StepContext, *, backup: int, moment: str, schema: str, table: str) -> Seen:
    return Seen.DONE if ScratchDatabase.objects.filter(operation=context.operation_id).exists() else Seen.NOT_DONE


def _restore_scratch(context: StepContext, *, backup: int, moment: str, schema: str, table: str) -> None:
    """It stays for some hours, then it is removed."""
    with no_doubt(f"restoring backup {backup}"):
        source = source_of(backup)
        scratch = Scratch(context.operation_id, context.fence)
        scratch.open()
        try:
            server = restore_into_scratch(
                source, scratch, context, moment=moment_of(moment), schema=schema, table=table
            )
            if source.backup.kind == Kind.DATABASE and not (schema or table):
                _same(context, source, server)
            context.check()
            context.save_checkpoint(look=f"psql -h {server.host} -U {server.user} {server.database}")
            ScratchDatabase.objects.create(
                operation_id=context.operation_id, host=socket.gethostname(), folder=str(scratch.home),
                port=server.port, database=server.database, expires_at=database_time() + SCRATCH_LIVES,
            )  # fmt: skip
        except BaseException:
            scratch.remove()
            raise
        scratch.leave()


def _tell_scratch(context: StepContext, *, backup: int, moment: str, schema: str, table: str) -> Verdict:
    """How to look into it, also when the worker that made it died before it could say so."""
    context.log(f"look into it on this machine: {context.checkpoint['look']}")
    return passed()


def _same(context: StepContext, source: Source, server: Server) -> None:
    if differences := compare(source.manifest, server, context):
        raise StepError(f"What came back is not what was backed up: {'; '.join(differences[:5])}.", permanent=True)


def _remove_scratch(context: StepContext) -> None:
    """Of this operation, whichever turn made it."""
    with no_doubt("removing the scratch database"):
        remove_leftovers(lambda operation_id, fence: operation_id != context.operation_id)
        ScratchDatabase.objects.filter(operation=context.operation_id, removed_at=None).update(removed_at=Now())


def remove_scratch() -> int:
    """Remove what nobody needs any more on this machine (the clock calls it); returns how many."""
    host = socket.gethostname()
    kept = set(
        ScratchDatabase.objects.filter(host=host, removed_at=None, expires_at__gt=Now()).values_list(
            "operation", flat=True
        )
    )
    # One that runs may be about to use its own; what earlier turns left is removed by the turn itself.
    kept |= set(Operation.objects.filter(state__in=EXECUTING).values_list("pk", flat=True))
    removed = remove_leftovers(lambda operation_id, fence: operation_id in kept)
    late = Q(host=host, removed_at=None) & ~Q(operation__in=kept)
    return removed + ScratchDatabase.objects.filter(late).update(removed_at=Now())


# --- into a database of the server itself -------------------------------------------------------------


def _server(source: Source) -> Server:
    return Server.at(str(source.policy.settings["database"]))


# Both fit into the 63 characters of a name in PostgreSQL: what is longer is cut, and would not be found again.
def _fresh_name(database: str, operation_id: int) -> str:
    return f"{database}_new_{operation_id}"


def _replaced_name(database: str, operation_id: int) -> str:
    return f"{database}_old_{operation_id}"


def _mark(operation_id: int) -> str:
    return f"restored by operation {operation_id} of the control plane"


def _mark_of(server: Server, database: str) -> str | None:
    """The comment on a database: "" for none, None where there is no such database."""
    with server.named("postgres").connect(autocommit=True) as connection:
        row = connection.execute(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = %s", [database]
        ).fetchone()
    return str(row[0]) if row else None


def _drop_ours(context: StepContext, server: Server, fresh: str) -> None:
    """A worker may be gone before it marked what it made; the name bears the operation's number."""
    if _mark_of(server, fresh) in ("", _mark(context.operation_id)):
        _drop(server, fresh)


def _run(server: Server, *statements: sql.Composed, together: bool = False) -> None:
    """Statements about whole databases, one by one or in one transaction. Raises StepError in the server's words."""
    try:
        with server.named("postgres").connect(autocommit=not together) as connection:
            for statement in statements:
                connection.execute(statement)
    except DatabaseError as error:
        raise StepError(f"The server of {server} refuses: {' '.join(str(error).split())}") from None


def _locale(server: Server, database: str) -> sql.Composable:
    with server.named("postgres").connect(autocommit=True) as connection:
        return locale_like(connection, database)


def _drop(server: Server, database: str) -> None:
    _run(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


def _observe_restore(context: StepContext, **arguments: object) -> Seen:
    return Seen.DONE if context.checkpoint.get("restored") else Seen.NOT_DONE


def _restore_database(
    context: StepContext, *, backup: int, moment: str, schema: str, table: str, database: str, fresh: bool
) -> None:
    """Into a database of its own, marked with the operation: what an earlier turn left is dropped, nothing else.

    It gets the name of a new one only when it is whole.
    """
    with no_doubt(f"restoring backup {backup}"):
        source = source_of(backup)
        server = _server(source)
        if fresh and source.backup.kind == Kind.DATABASE and database != server.database:
            words = f"{database} is not what {source.policy} backs up, {server.database} is, so nothing would hold it"
            raise StepError(f"{words} once it is replaced. Restore into a new database instead.", permanent=True)
        name = _fresh_name(database, context.operation_id)
        if not fresh and (mark := _mark_of(server, database)) is not None:
            if mark == _mark(context.operation_id):  # the worker before this one came so far
                context.save_checkpoint(restored=database)
                return
            raise StepError(f"There is a database {database} already. Choose another name, or drop it.", permanent=True)
        context.check()
        _drop_ours(context, server, name)
        _run(
            server,
            sql.SQL("CREATE DATABASE {} TEMPLATE template0{}").format(
                sql.Identifier(name), _locale(server, database) if fresh else sql.SQL("")
            ),
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(name), sql.Literal(_mark(context.operation_id))
            ),
        )
        with scratch_for(context.operation_id, context.fence) as scratch:
            _fill(context, source, scratch, server.named(name), moment=moment, schema=schema, table=table)
        if fresh:
            take_over(server, database, name, context)
        else:
            context.check()
            _run(server, RENAME.format(sql.Identifier(name), sql.Identifier(database)))
        context.save_checkpoint(restored=name if fresh else database)


def _fill(
    context: StepContext, source: Source, scratch: Scratch, server: Server, *, moment: str, schema: str, table: str
) -> None:
    if source.backup.kind == Kind.DATABASE:
        load(source, server, scratch, context, schema=schema, table=table, owners=True)
        if not (schema or table):
            _same(context, source, server)
        return
    # A cluster comes back as a whole: the database is taken out of it.
    there = restore_into_scratch(source, scratch, context, moment=moment_of(moment))
    path = scratch.folder("taken-out") / "database.dump"
    dump_to(path, there, context)
    restore(path, server, context, schema=schema, table=table, owners=True)


def _drop_restored(context: StepContext, *, backup: int, database: str, fresh: bool) -> None:
    with no_doubt(f"dropping what was restored of {database}"):
        server = _server(source_of(backup))
        context.check()
        _drop_ours(context, server, _fresh_name(database, context.operation_id))
        if not fresh and _mark_of(server, database) == _mark(context.operation_id):
            _drop(server, database)


def _observe_swap(context: StepContext, *, backup: int, database: str) -> Seen:
    with no_doubt(f"looking whether {database} was replaced"):
        server = _server(source_of(backup))
        in_place = _mark_of(server, database) == _mark(context.operation_id)
        return Seen.DONE if in_place and _is_open(server, database) else Seen.NOT_DONE


def _swap(context: StepContext, *, backup: int, database: str) -> None:
    """Both renames in one transaction. Whoever is connected is disconnected, and kept out until it is done."""
    with no_doubt(f"replacing {database}"):
        server = _server(source_of(backup))
        there = _mark_of(server, database)
        context.check()
        if there == _mark(context.operation_id):
            _open(server, database)  # another worker came so far, and the next one shut it in vain
        elif there is None:
            fresh = sql.Identifier(_fresh_name(database, context.operation_id))
            _run(server, RENAME.format(fresh, sql.Identifier(database)))
        else:
            _exchange(context, server, database)


def _exchange(context: StepContext, server: Server, database: str) -> None:
    replaced = _replaced_name(database, context.operation_id)
    here, fresh = sql.Identifier(database), sql.Identifier(_fresh_name(database, context.operation_id))
    _shut(server, database)
    try:
        _run(server, RENAME.format(here, sql.Identifier(replaced)), RENAME.format(fresh, here), together=True)
    except StepError:
        _open(server, database)
        raise
    context.log(f"{database} is now what was restored; the replaced one is {replaced}")


def _open(server: Server, database: str) -> None:
    _run(server, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(database)))


def _is_open(server: Server, database: str) -> bool:
    with server.named("postgres").connect(autocommit=True) as connection:
        query = "SELECT datallowconn FROM pg_database WHERE datname = %s"
        return connection.execute(query, [database]).fetchone() == (True,)


def _shut(server: Server, database: str) -> None:
    _run(
        server,
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)),
        sql.SQL("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = {}").format(
            sql.Literal(database)
        ),
    )


def _swap_back(context: StepContext, *, backup: int, database: str) -> None:
    """The replaced one takes its place again; what was restored goes back to its own name, to be dropped."""
    with no_doubt(f"putting the replaced {database} back"):
        server = _server(source_of(backup))
        replaced = _replaced_name(database, context.operation_id)
        context.check()
        if _mark_of(server, replaced) is not None:
            if _mark_of(server, database) == _mark(context.operation_id):
                _shut(server, database)
                fresh = sql.Identifier(_fresh_name(database, context.operation_id))
                _run(server, RENAME.format(sql.Identifier(database), fresh))
            _run(server, RENAME.format(sql.Identifier(replaced), sql.Identifier(database)))
        if _mark_of(server, database) is not None:
            _open(server, database)


def _drop_replaced(context: StepContext, *, backup: int, database: str) -> None:
    """The safety backup has what it held."""
    with no_doubt(f"dropping the replaced {database}"):
        server = _server(source_of(backup))
        context.check()
        if _mark_of(server, database) == _mark(context.operation_id):
            _drop(server, _replaced_name(database, context.operation_id))


# --- files and configuration --------------------------------------------------------------------------


def restored_folder(environment: str, name: str) -> Path:
    """Where files are restored to that shall not replace those in use."""
    return Path(settings.DATA_DIR).resolve() / "restored" / environment / name


def _restore_files(context: StepContext, *, backup: int, folder: str) -> None:
    with no_doubt(f"restoring backup {backup}"):
        source = source_of(backup)
        if source.backup.kind == Kind.IMAGES:
            where = _images_into(restored_folder(source.backup.environment.slug, folder), source, context)
        else:
            where = _uploads_into(folder, source, context)
        context.log(f"the files are in {where}")


def _images_into(target: Path, source: Source, context: StepContext) -> str:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    manifest = source.manifest
    for image in manifest["facts"]["images"]:
        restore_image(manifest, source.store, source.sealer, image["reference"], target, context)
    return str(target)


def _uploads_into(folder: str, source: Source, context: StepContext) -> str:
    """folder: below the restored ones; "" for where the policy's files are in use. Returns where that is."""
    given = source.policy.settings["source"]
    if not folder and "bucket" in given:
        bucket = S3Kind().open(given).bucket
        restore_files_to_bucket(source.manifest, source.store, source.sealer, bucket, context)
        return bucket_named(given)
    target = restored_folder(source.backup.environment.slug, folder) if folder else Path(folder_of(given))
    restore_files(source.manifest, source.store, source.sealer, target, context)
    return str(target)


def _restore_configuration(context: StepContext, *, backup: int) -> None:
    """In one transaction with its audit entry; the same again changes nothing."""
    source = source_of(backup)
    manifest = source.manifest
    context.check()
    environment = source.backup.environment
    with transaction.atomic():
        changes = restore_configuration(manifest, source.store, source.sealer, environment)
        record(
            SYSTEM("worker"), "environment.configured", f"environment {environment.slug}", scopes=[environment.slug],
            reason=f"restored from backup {backup} in operation {context.operation_id}", data={"changes": changes},
        )  # fmt: skip
    for line in changes:
        context.log(line)


STEPS = {
    "backups.restore_scratch": StepFunction(act=_restore_scratch, observe=_observe_scratch, verify=_tell_scratch),
    "backups.scratch_remove": StepFunction(act=_remove_scratch),
    "backups.restore_database": StepFunction(act=_restore_database, observe=_observe_restore),
    "backups.drop_restored": StepFunction(act=_drop_restored),
    "backups.swap": StepFunction(act=_swap, observe=_observe_swap),
    "backups.swap_back": StepFunction(act=_swap_back),
    "backups.drop_replaced": StepFunction(act=_drop_replaced),
    "backups.restore_files": StepFunction(act=_restore_files),
    "backups.restore_configuration": StepFunction(act=_restore_configuration),
}
