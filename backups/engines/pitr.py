"""Base backups of a whole cluster, from which one gets to any moment by the WAL that is kept beside them.

1. pg_basebackup streams a tar archive: the cluster's files, the WAL that makes them consistent (so that each base
   restores by itself), and the server's own list of them (backup_manifest) last.
2. The stream is compressed, sealed and put into the storage as it comes; nothing is written here.
3. backup_manifest is put beside it as an object of its own: an incremental backup needs that of its parent.
4. Where no incremental one is possible, the backup is a whole one, and the log says why.

settings:
    database    secret reference of the URL of a database of the cluster, for a role with REPLICATION
    slot        name of the replication slot of the WAL receiver; default: made of the policy's name
"""

import json
import re
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import psycopg
import zstandard

from backups.engines.base import Hand, Job, Taken
from backups.engines.manifest_watch import MANIFEST, ManifestWatch
from backups.programs import Server, program, tool_version
from backups.source_cluster import Cluster, cluster_at, problem_with
from backups.wal_segments import position
from controlplane.operations.errors import StepError
from environments.secrets import problem_with as problem_with_reference

MAIN = "base.tar.zst"
FIRST_WITH_INCREMENTAL = 17
LEVEL = 3
READ_BYTES = 1024 * 1024
PATIENCE_SECONDS = 1.0
PROGRESS_BYTES = 32 * 1024 * 1024
TAIL_BYTES = 16 * 1024
SLOT = re.compile(r"[a-z0-9_]{1,63}")


class PitrEngine:
    """See `base.Engine`."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """`database` is needed, `slot` may be given."""
        wrong = {key: "is not a setting of this kind" for key in settings if key not in ("database", "slot")}
        reference = settings.get("database")
        if not isinstance(reference, str) or not reference:
            wrong["database"] = "has to be the secret reference of a connection URL"
        elif words := problem_with_reference(reference):
            wrong["database"] = words
        slot = settings.get("slot", "")
        if slot and not (isinstance(slot, str) and SLOT.fullmatch(slot)):
            wrong["slot"] = "has to be a name of small letters, digits and underscores"
        return wrong

    def look(self, job: Job, hand: Hand) -> None:
        """Ask the server, over a connection for replication too."""
        source = Server.at(str(job.settings["database"]))
        hand.mask(source.password)
        cluster = cluster_at(source)
        if words := problem_with(cluster, source):
            raise StepError(words, permanent=True)
        if cluster.major > _tool_major():
            raise StepError(
                f"{source} is PostgreSQL {cluster.major}, newer than pg_basebackup {tool_version()} here. "
                "Set POSTGRES_PROGRAMS to the folder of the newer programs.", permanent=True,
            )  # fmt: skip
        if cluster.major >= FIRST_WITH_INCREMENTAL and not cluster.summarizes_wal:
            hand.log("Every backup is a whole one: set summarize_wal = on in postgresql.conf for incremental ones.",
                     level="warning")  # fmt: skip

    def take(self, job: Job, hand: Hand) -> Taken:
        """A whole one, or what changed since the parent."""
        source = Server.at(str(job.settings["database"]))
        hand.mask(source.password)
        cluster = cluster_at(source)
        # Files without a name: whoever dies leaves nothing of them.
        with tempfile.TemporaryFile() as file:
            before = self._parents_manifest(job, cluster, file, hand)
            with self._started(source, job, before, hand) as copy:
                stored = job.store.put(
                    job.key + MAIN + job.sealer.suffix, job.sealer.seal(copy.compressed(hand)), check=hand.check
                )
        beside = job.store.put(
            f"{job.key}{MANIFEST}.zst{job.sealer.suffix}", job.sealer.seal([copy.manifest]), check=hand.check
        )
        return Taken(
            objects=(stored, beside),
            as_of=cluster_at(source).now,
            source_bytes=copy.bytes_read,
            facts={**cluster.facts(), **copy.positions(), "tool_version": tool_version(),
                   "database": source.database},
            level="incremental" if copy.is_incremental else "full",
        )  # fmt: skip

    def _parents_manifest(self, job: Job, cluster: Cluster, file: IO[bytes], hand: Hand) -> IO[bytes] | None:
        """The file, filled with what an incremental backup builds on; None, with a line in the log, when none is."""
        if job.parent is None:
            return None
        if words := why_whole(job.parent, cluster):
            hand.log(f"A whole backup: {words}.")
            return None
        name = f"{MANIFEST}.zst"
        key = next((one["key"] for one in job.parent["objects"] if one["name"].startswith(name)), "")
        try:
            if not key:
                raise StepError("it has none")
            with (
                job.store.open(key) as stored,
                job.sealer.unseal(stored, str(job.parent["key_id"])) as opened,
            ):
                zstandard.ZstdDecompressor().copy_stream(opened, file)
            file.flush()
            file.seek(0)
        except (StepError, zstandard.ZstdError) as error:
            hand.log(f"A whole backup: the list of files of {job.parent['key']} cannot be read: {error}")
            return None
        return file

    @contextmanager
    def _started(self, source: Server, job: Job, before: IO[bytes] | None, hand: Hand) -> Iterator["BaseBackup"]:
        """pg_basebackup, with its first bytes already here. What the server refuses as incremental is taken whole."""
        if before is not None:
            try:
                copy = BaseBackup(source, before, total=job.parent["source_bytes"] if job.parent else 0)
                with copy.running(hand):
                    yield copy
                return
            except NotBegun as error:
                hand.log(f"A whole backup: the server does not give an incremental one: {error}")
        copy = BaseBackup(source, None, total=size_of(source))
        with copy.running(hand):
            yield copy


def why_whole(parent: Mapping[str, Any], cluster: Cluster) -> str:
    """Why a backup cannot build on the one before it, in words; "" when it may."""
    facts = parent["facts"]
    if cluster.major < FIRST_WITH_INCREMENTAL:
        return f"PostgreSQL {cluster.major} has no incremental ones, {FIRST_WITH_INCREMENTAL} does"
    if _tool_major() < FIRST_WITH_INCREMENTAL:
        return f"pg_basebackup {tool_version()} here has no incremental ones"
    if facts.get("system_identifier") != cluster.system_identifier:
        return "the one before is of another cluster"
    if facts.get("timeline") != cluster.timeline:
        return f"the one before is of timeline {facts.get('timeline')}, the server is on {cluster.timeline}"
    if not cluster.summarizes_wal:
        return "summarize_wal is off in postgresql.conf"
    return ""


def size_of(source: Server) -> int:
    """About how many bytes the cluster has, for the progress; 0 where this role may not know."""
    with source.connect(autocommit=True) as connection:
        try:
            row = connection.execute("SELECT sum(pg_database_size(oid))::bigint FROM pg_database").fetchone()
        except psycopg.Error:
            return 0
    return int(row[0]) if row else 0


def _tool_major() -> int:
    return int(re.split(r"\D", tool_version())[0])


class NotBegun(StepError):
    """pg_basebackup ended before it gave a byte."""


class BaseBackup:
    """One run of pg_basebackup. manifest: backup_manifest, compressed. bytes_read: of the stream."""

    def __init__(self, source: Server, before: IO[bytes] | None, *, total: int) -> None:
        self.source = source
        self.is_incremental = before is not None
        self.total = total
        self.bytes_read = 0
        self.manifest = b""
        self._watch = ManifestWatch()
        self._tail = b""
        self._packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._command = [
            program("pg_basebackup"), "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast",
            "--no-password", "--label=controlplane",
            *([f"--incremental=/dev/fd/{before.fileno()}"] if before else []),
        ]  # fmt: skip
        self._files = (before.fileno(),) if before else ()
        self._first = b""
        self._process: subprocess.Popen[bytes]
        self._errors: IO[bytes]

    @contextmanager
    def running(self, hand: Hand) -> Iterator[None]:
        """Start it and wait for its first bytes. Raises NotBegun. It is ended with the block."""
        with tempfile.TemporaryFile() as self._errors:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors,
                env={**self.source.environment(), "PGDATABASE": ""}, start_new_session=True, pass_fds=self._files,
            )  # fmt: skip
            try:
                self._first = self._read(hand)
                if not self._first:
                    self._process.wait()
                    raise NotBegun(f"pg_basebackup gave nothing: {self._last_words()}")
                yield
            finally:
                self._process.kill()
                self._process.wait()
                self._output.close()

    def compressed(self, hand: Hand) -> Iterator[bytes]:
        """The stream. Raises StepError when it is not whole."""
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, threads=2).compressobj()
        chunk, told = self._first, 0
        while chunk:
            self.bytes_read += len(chunk)
            self._keep(self._watch.feed(chunk))
            if packed := compressor.compress(chunk):
                yield packed
            if self.bytes_read - told > PROGRESS_BYTES:
                told = self.bytes_read
                hand.progress(told, max(self.total, told), "bytes")
            chunk = self._read(hand)
        if status := self._process.wait():
            raise StepError(f"pg_basebackup exited {status}: {self._last_words()}")
        if not self._tail:
            raise StepError("pg_basebackup ended without a list of the files, so the backup is not whole.")
        self.manifest += self._packer.flush()
        yield compressor.flush()
        hand.progress(self.bytes_read, self.bytes_read, "bytes")

    def positions(self) -> dict[str, Any]:
        """Which WAL makes it consistent, as the end of backup_manifest says."""
        found = re.search(rb'"WAL-Ranges":\s*(\[.*?\])', self._tail, re.DOTALL)
        ranges = json.loads(found[1]) if found else []
        if not ranges:
            raise StepError("The server's list of the files does not say which WAL belongs to the backup.")
        ranges.sort(key=lambda one: position(one["Start-LSN"]))  # several, if a standby was promoted meanwhile
        return {
            "timeline": ranges[0]["Timeline"],
            "wal_start": ranges[0]["Start-LSN"],
            "wal_end": ranges[-1]["End-LSN"],
            "files": self._watch.files,
        }

    def _keep(self, part: bytes) -> None:
        if part:
            self._tail = (self._tail + part)[-TAIL_BYTES:]
            self.manifest += self._packer.compress(part)

    def _read(self, hand: Hand) -> bytes:
        """The next bytes; b"" at the end. The lease is looked at while nothing comes."""
        while not select.select([self._output], [], [], PATIENCE_SECONDS)[0]:
            hand.check()
        return self._output.read1(READ_BYTES)  # type: ignore[attr-defined, no-any-return]

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return " ".join(line.removeprefix("pg_basebackup: ") for line in lines[-3:]) or "it said nothing"
