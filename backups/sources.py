"""A backup as it is restored: its chain of manifests, its storage, and the key that opens it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from backups.engines.base import Hand
from backups.engines.fetching import fetch
from backups.engines.restoring import restore
from backups.jobs import chain_of, sealer_of
from backups.manifest import read_manifest
from backups.models import Backup, Kind, Policy
from backups.programs import NoRoom, Server, program
from backups.recovery import restore_to
from backups.scratch import Scratch
from backups.sealing import Sealer
from backups.storage import open_store
from backups.storage.base import Store
from controlplane.operations.errors import StepError

# The database a dump is loaded into on a scratch server.
RESTORED = "restored"


@dataclass(frozen=True)
class Source:
    """What it takes to restore one backup."""

    backup: Backup
    policy: Policy
    store: Store
    sealer: Sealer

    @property
    def manifest(self) -> Mapping[str, Any]:
        """As it stands beside the object: the catalog is not asked what the object is."""
        return read_manifest(self.store, self.backup.key)

    def chain(self) -> list[dict[str, Any]]:
        """The manifests it takes, the whole one first."""
        return [read_manifest(self.store, one.key) for one in chain_of(self.backup)]


def source_of(number: int) -> Source:
    """The backup of that number. Raises StepError when it cannot be restored any more."""
    related = "environment", "storage", "policy__environment", "policy__storage", "parent"
    backup = Backup.objects.select_related(*related).filter(pk=number).first()
    if backup is None or backup.policy is None:
        raise StepError(f"Backup {number}, or the policy it belongs to, is not there any more.", permanent=True)
    if backup.state == Backup.State.DELETED:
        raise StepError(f"Backup {number} was deleted meanwhile. Choose another one.", permanent=True)
    return Source(backup, backup.policy, open_store(backup.storage), sealer_of(backup.policy))


def moment_of(text: str) -> datetime | None:
    """A moment as steps carry it; "" for that of the backup itself."""
    return parse_datetime(text) if text else None


class Unrestorable(StepError):
    """The backup itself does not come back: it is damaged, its key is another one, or it is not what it should be."""


@contextmanager
def blame_the_backup(source: Source) -> Iterator[None]:
    """What fails for good in here is the fault of the backup, not of the place it is restored to, nor of the storage.

    A storage that does not let us in at all (its credentials, a missing bucket) says nothing of what is in it.
    """
    try:
        yield
    except NoRoom:
        raise
    except StepError as error:
        if not error.permanent or source.store.problem():
            raise
        raise Unrestorable(str(error), permanent=True) from error


@contextmanager
def scratch_for(operation_id: int, fence: int) -> Iterator[Scratch]:
    """A scratch server of this turn, removed at the end whatever happens, but for a lost lease: then by the next."""
    scratch = Scratch(operation_id, fence)
    scratch.open()
    try:
        yield scratch
    finally:
        scratch.remove()


def restore_into_scratch(
    source: Source, scratch: Scratch, hand: Hand, *, moment: datetime | None, schema: str = "", table: str = ""
) -> Server:
    """Bring the database back on a scratch server that is open; returns how it is reached."""
    if source.backup.kind == Kind.DATABASE:
        scratch.initialise()
        scratch.start(hand.wait)
        server = scratch.server(RESTORED)
        create(server, source.manifest["facts"].get("encoding", ""))
        load(source, server, scratch, hand, schema=schema, table=table)
        return server
    program("postgres")  # without it nothing can be said of the backup
    with blame_the_backup(source):
        restore_to(scratch, source.policy, source.chain(), moment, source.store, source.sealer, hand)
    return scratch.server(Server.at(str(source.policy.settings["database"])).database)


def create(server: Server, encoding: str = "") -> None:
    """Make an empty database on a scratch server; one that takes any bytes where the backed up one did."""
    anything = " ENCODING 'SQL_ASCII' LOCALE 'C'" if encoding == "SQL_ASCII" else ""
    with server.named("postgres").connect(autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{server.database}" TEMPLATE template0{anything}'.encode())


def load(
    source: Source,
    server: Server,
    scratch: Scratch,
    hand: Hand,
    *,
    schema: str = "",
    table: str = "",
    owners: bool = False,
) -> None:
    """Fetch a dump and load it into an empty database. What was fetched is removed."""
    folder = scratch.folder("fetched")
    with blame_the_backup(source):
        path = fetch(source.manifest, source.store, source.sealer, folder, hand)
    try:
        with blame_the_backup(source):
            restore(path, server, hand, schema=schema, table=table, owners=owners)
    finally:
        path.unlink(missing_ok=True)
