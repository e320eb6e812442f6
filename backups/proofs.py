"""Restore tests: a backup is verified by nothing else (the guide: "Backup restoration test", weekly)."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from backups.engines.base import Hand
from backups.engines.configuration import read_configuration
from backups.engines.dumping import UNREACHABLE
from backups.engines.restoring import compare, run_checks
from backups.engines.running import Running
from backups.models import Kind
from backups.programs import Server
from backups.restoring_files import restore_files, restore_image
from backups.scratch import Scratch
from backups.sources import (
    Source,
    Unrestorable,
    blame_the_backup,
    moment_of,
    restore_into_scratch,
    scratch_for,
    source_of,
)
from backups.steps import no_doubt
from controlplane.operations.errors import StepError
from controlplane.operations.registry import Seen, StepContext, StepFunction

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Proven:
    """What a restore test found: in words, and how long the restore itself took, in seconds."""

    words: str
    seconds: float


def _observe(context: StepContext, *, backup: int, moment: str) -> Seen:
    return Seen.DONE if "words" in context.checkpoint else Seen.NOT_DONE


def _prove(context: StepContext, *, backup: int, moment: str) -> None:
    """Restore it as one would in need, then compare with what its snapshot held and ask the user's own questions."""
    with no_doubt(f"testing backup {backup}"):
        source = source_of(backup)
        try:
            with scratch_for(context.operation_id, context.fence) as scratch:
                found = PROOFS[Kind(source.backup.kind)](context, source, scratch, moment)
        except Unrestorable:
            context.save_checkpoint(unrestorable=True)
            raise
        context.save_checkpoint(words=found.words, seconds=round(found.seconds, 3))
        context.log(f"proven: {found.words}; restored in {found.seconds:.1f} s")


def _database(context: StepContext, source: Source, scratch: Scratch, moment: str) -> Proven:
    began = time.monotonic()
    server = restore_into_scratch(source, scratch, context, moment=None)
    seconds = time.monotonic() - began
    manifest = source.manifest
    if differences := compare(manifest, server, context):
        raise Unrestorable(f"It restores, but not to what was backed up: {'; '.join(differences[:5])}.", permanent=True)
    _ask(source, scratch, server)
    tables = manifest["facts"]["tables"]
    rows = sum(table["rows"] for table in tables)
    return Proven(f"{len(tables)} tables with {rows:,} rows are as they were{_asked(source)}", seconds)


def _cluster(context: StepContext, source: Source, scratch: Scratch, moment: str) -> Proven:
    """A base has no list of rows to compare with: the server must start, and every row must be readable."""
    began = time.monotonic()
    server = restore_into_scratch(source, scratch, context, moment=moment_of(moment))
    seconds = time.monotonic() - began
    context.log("reading every row")
    read_all(context, server)
    _ask(source, scratch, server)
    return Proven(f"the cluster starts, and every row of {server.database} can be read{_asked(source)}", seconds)


def read_all(hand: Hand, server: Server) -> None:
    """Raises Unrestorable when a row cannot be read. What ends pg_dump from outside says nothing of the backup."""
    with Running("pg_dump", ["--file=/dev/null"], server) as dump:
        while (status := dump.wait(POLL_SECONDS)) is None:
            hand.check()
    if status == 0:
        return
    said = " ".join(dump.said().split())
    if status < 0 or any(words in said for words in UNREACHABLE):
        raise StepError(f"Reading every row was cut short, pg_dump ended with status {status}: {said[-500:]}")
    raise Unrestorable(f"Not every row can be read: {said[-500:]}", permanent=True)


def _ask(source: Source, scratch: Scratch, server: Server) -> None:
    """The checks are somebody's text: they are asked as one who may read what was restored, and nothing else."""
    checks = source.policy.checks
    if checks and (wrong := run_checks(scratch.reader(server.database), checks)):
        raise Unrestorable(f"A check of your own fails: {'; '.join(wrong)}.", permanent=True)


def _asked(source: Source) -> str:
    count = len(source.policy.checks)
    if not count:
        return ""
    return ", and a check of your own agrees" if count == 1 else f", and {count} checks of your own agree"


def _uploads(context: StepContext, source: Source, scratch: Scratch, moment: str) -> Proven:
    began = time.monotonic()
    folder = scratch.folder("files")
    with blame_the_backup(source):
        restore_files(source.manifest, source.store, source.sealer, folder, context)
    seconds = time.monotonic() - began
    shutil.rmtree(folder, ignore_errors=True)
    facts = source.manifest["facts"]
    return Proven(f"{facts['files']:,} files, {facts['bytes']:,} bytes, each with its checksum", seconds)


def _configuration(context: StepContext, source: Source, scratch: Scratch, moment: str) -> Proven:
    began = time.monotonic()
    with blame_the_backup(source):
        found = read_configuration(source.manifest, source.store, source.sealer)
    return Proven(f"{len(found['variables'])} variables can be read", time.monotonic() - began)


def _images(context: StepContext, source: Source, scratch: Scratch, moment: str) -> Proven:
    began = time.monotonic()
    folder = scratch.folder("images")
    for image in source.manifest["facts"]["images"]:
        with blame_the_backup(source):
            restore_image(source.manifest, source.store, source.sealer, image["reference"], folder, context)
    count = len(source.manifest["facts"]["images"])
    return Proven(f"{count} images, each layer with its digest", time.monotonic() - began)


Proof = Callable[[StepContext, Source, Scratch, str], Proven]
PROOFS: dict[Kind, Proof] = {
    Kind.DATABASE: _database,
    Kind.PITR: _cluster,
    Kind.UPLOADS: _uploads,
    Kind.CONFIGURATION: _configuration,
    Kind.IMAGES: _images,
}

STEPS = {"backups.prove": StepFunction(act=_prove, observe=_observe)}
