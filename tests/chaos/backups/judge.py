"""The judge: restores what the catalog calls a backup by PostgreSQL's own programs, and asks it what it is.

Nothing of `backups/` takes part: the manifest is read as a person would by hand, the object is opened by zstd and age,
a dump is loaded by pg_restore, a cluster is unpacked, combined and started.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyrage
import zstandard

from controlplane.embedded.errors import StackError
from controlplane.embedded.place import Place
from controlplane.embedded.postgres import Postgres
from tests.chaos.backups.world import OVER, Lane, Places
from tests.chaos.backups.writers import look, numbers_in

MANIFEST = "manifest.json"
COPY_SECONDS = 60.0  # a server may be recovering from a crash
UNREADABLE = (
    OSError, ValueError, psycopg.Error, pyrage.DecryptError, zstandard.ZstdError, tarfile.TarError,
    subprocess.CalledProcessError, StackError,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A backup to be judged. keys: the chain, the whole one first. since, until: what it may hold at the least, at
    the most, of each database, as its writer counts."""

    number: int
    lane: Lane
    keys: list[str]
    since: Mapping[str, int]
    until: Mapping[str, int]


class Judge:
    """With a server of its own, which no piece of bad luck reaches."""

    def __init__(self, place: Place, folder: Path, places: Places, lanes: list[Lane], password: str) -> None:
        self.place, self.places, self.password = place, places, password
        self.lanes = {lane.database: lane for lane in lanes}
        self.log = folder / "logs" / "judge.log"
        self.folder = folder / "judge"
        self.folder.mkdir()
        self.server = Postgres(place, password=password, port=None, log=self.log, durable=False, name="judge")
        self.server.start()
        self.seen: dict[str, str] = {}  # the SHA-256 of each object when it was restored
        self.numbers: dict[int, frozenset[int]] = {}  # what is written down in a dump that may replace its database

    def stop(self) -> None:
        """End of the run."""
        self.server.stop()

    # --- one backup -------------------------------------------------------------------------------

    def problems(self, case: Case) -> list[str]:
        """Why it is no backup, in words; nothing when it restores to a moment of its database."""
        try:
            if case.lane.is_cluster:
                return self._cluster(case)
            return self._dump(case)
        except KeyError as missing:
            return [f"{missing} is not in the storage"]
        except UNREADABLE as error:
            return [in_words(error)]

    def problems_of_copy(self, case: Case, source: Postgres, database: str) -> list[str]:
        """What is wrong with the database that a backup was restored into, on its source's own server; drops it."""
        late = time.monotonic() + COPY_SECONDS
        wrong: list[str] | None = None
        while True:
            try:
                # Asked once: a server that dies while it drops a database leaves one that can only be dropped.
                if wrong is None:
                    wrong = self._ask(case, source, database, case.lane.database, {})
                with closing(psycopg.connect(source.url, autocommit=True)) as admin:
                    admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)".encode())
                return wrong
            except psycopg.OperationalError as error:  # it is being restarted, or there is no such database
                if time.monotonic() > late or "does not exist" in str(error):
                    return [f"{database} cannot be asked: {error}"]
                time.sleep(1)  # for a server that comes back

    def differs(self, number: int, there: frozenset[int]) -> list[str]:
        """What took the place of a database, against what the same backup holds; asked after `problems`."""
        held = self.numbers.get(number, there)
        return [] if held == there else [f"it holds {len(there)} moments, up to {max(there)}; the backup {len(held)},"
                                         f" up to {max(held)}"]  # fmt: skip

    def changed(self, lane: Lane, key: str) -> list[str]:
        """Whether the objects of a backup that was restored are still what they were then."""
        try:
            manifest = self._manifest(lane, key)
            keys = [one["key"] for one in manifest["objects"]]
            return [f"{one} is another one" for one in keys if self._digest(lane, one) != self.seen.get(one)]
        except (KeyError, ValueError) as error:
            return [f"{error} is gone"]

    def _digest(self, lane: Lane, key: str) -> str:
        return hashlib.sha256(self.places.read(lane, key)).hexdigest()

    def _manifest(self, lane: Lane, key: str) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self.places.read(lane, key + MANIFEST))
        return manifest

    def _opened(self, lane: Lane, manifest: Mapping[str, Any]) -> io.BufferedReader:
        """The main object, decrypted and unpacked."""
        for one in manifest["objects"]:
            content = self.places.read(lane, one["key"])
            self.seen[one["key"]] = digest = hashlib.sha256(content).hexdigest()
            if digest != one["sha256"]:
                raise ValueError(f"{one['key']} has another SHA-256 than its manifest says")
        return self.opened(lane, manifest["objects"][0]["key"])

    def opened(self, lane: Lane, key: str) -> io.BufferedReader:
        """An object, decrypted and unpacked. Raises KeyError when it is not there."""
        content = self.places.read(lane, key)
        if lane.identity:
            content = pyrage.decrypt(content, [pyrage.x25519.Identity.from_str(lane.identity)])
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)))

    def _dump(self, case: Case) -> list[str]:
        manifest = self._manifest(case.lane, case.keys[-1])
        path = self.folder / f"{case.number}.dump"
        database = f"judged_{case.number}"
        with closing(psycopg.connect(self.server.url, autocommit=True)) as admin:
            admin.execute(f"CREATE DATABASE {database} TEMPLATE template0".encode())
            try:
                with self._opened(case.lane, manifest) as dump, path.open("wb") as file:
                    shutil.copyfileobj(dump, file)
                self._pg_restore(path, database)
                return self._ask(case, self.server, database, case.lane.database, manifest)
            finally:
                path.unlink(missing_ok=True)
                admin.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())

    def _pg_restore(self, path: Path, database: str) -> None:
        program = str(self.place.postgres_programs / "pg_restore")
        url = self.server.url_of(database)
        command = [program, "--exit-on-error", "--no-owner", f"--dbname={url}", str(path)]
        subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)

    def _cluster(self, case: Case) -> list[str]:
        with self.unpacked(case.lane, case.keys, f"judged-{case.number}") as server:
            server.start()
            # One that is restored over may be closed for a moment: what becomes of it is judged in its own rounds.
            lanes = [lane for lane in self.lanes.values() if lane.server is case.lane.server and lane.way != OVER]
            return [words for lane in lanes for words in self._ask(case, server, lane.database, lane.database, {})]

    @contextmanager
    def unpacked(self, lane: Lane, keys: Sequence[str], name: str) -> Iterator[Postgres]:
        """A server of a chain of copies of a cluster, combined and not started, for the length of the block."""
        parts = [self.place.folder / f"{name}-{index}" for index in range(len(keys))]
        server = Postgres(self.place, password=self.password, port=None, log=self.log, durable=False, name=name)
        try:
            for key, part in zip(keys, parts, strict=True):
                with (
                    self._opened(lane, self._manifest(lane, key)) as stream,
                    tarfile.open(fileobj=stream, mode="r|") as archive,
                ):
                    archive.extractall(part, filter="fully_trusted")
            if len(parts) == 1:
                parts[0].rename(server.folder)
            else:
                program = str(self.place.postgres_programs / "pg_combinebackup")
                command = [program, "--no-sync", "--output", str(server.folder), *map(str, parts)]
                subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
            self._own(server.folder)
            yield server
        finally:
            server.stop()
            for folder in [*parts, server.folder]:
                shutil.rmtree(folder, ignore_errors=True)

    def _own(self, folder: Path) -> None:
        folder.chmod(0o700)
        if self.place.account is not None:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, *self.place.account, follow_symlinks=False)

    # --- what came back ---------------------------------------------------------------------------

    def _ask(self, case: Case, server: Postgres, database: str, source: str, manifest: Mapping[str, Any]) -> list[str]:
        with closing(psycopg.connect(server.url_of(database), autocommit=True)) as connection:
            moment, wrong = look(connection, source, self.lanes[source].still)
            if database != source and case.lane.way == OVER:
                self.numbers[case.number] = numbers_in(connection)
            if not case.since[source] <= moment <= case.until[source]:
                wrong.append(f"{source}: of {moment}, not between {case.since[source]} and {case.until[source]}")
            for table in manifest.get("facts", {}).get("tables", []):
                count = connection.execute(f"SELECT count(*) FROM ONLY {table['name']}".encode()).fetchone()
                if count is None or count[0] != table["rows"]:
                    wrong.append(f"{table['name']} has {count and count[0]} rows, not {table['rows']}")
        return wrong


def in_words(error: Exception) -> str:
    """What went wrong, and what the program said that failed."""
    said = getattr(error, "stderr", b"") or b""
    return f"{type(error).__name__}: {error} {said.decode(errors='replace')[-500:]}"
