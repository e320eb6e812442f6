"""Ours against pgBackRest: a whole copy of one cluster, and the cluster back from it, both on one disk.

- The cluster is of the PostgreSQL whose programs POSTGRES_PROGRAMS names, or of the embedded one, and is filled like
  the database of the other figures. It is made here, because pgBackRest wants a server that gives it every segment.
- A copy: ours is the whole operation of a policy of the kind `pitr`, by a process like a worker, from its plan to its
  row in the catalog, into a storage of the kind `folder`; theirs is `pgbackrest backup --type=full`. Both ask for a
  checkpoint at once and compress with two threads, ours with zstd at 3, theirs with zstd at 1, or with what it takes
  itself where it has no zstd. Both end when the copy is on the disk with all the WAL it needs. Theirs puts that into
  its archive; nothing old is removed by either.
- A restore: from nothing until a server on the restored files accepts connections, as it was at the end of the copy,
  and the files are on the disk. For that both are followed by one sync, since pgBackRest writes through to the disk and
  a scratch of ours does not. `pgbackrest restore` only writes files, so its server is started as ours is, with the
  same settings. Both compare the checksum of every file.

In turns; medians.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from django.conf import settings

from backups.jobs import sealer_of, store_of
from backups.models import Backup, Kind, Policy, Storage
from backups.programs import Server
from backups.recovery import restore_to
from backups.scratch import Scratch, server_program, socket_name
from controlplane.embedded.place import Place, discard, prepare_place
from controlplane.embedded.postgres import NAME, Postgres
from environments.models import Environment
from tests.backups.hands import PaperHand
from tests.benchmarks.backup_data import fill

STANZA = "bench"
REFERENCE = "BENCH_PGBACKREST"
ZSTD = "compress-type=zst\ncompress-level=1\n"
CONFIGURATION = """[global]
repo1-path={folder}/repo
lock-path={folder}/lock
spool-path={folder}/spool
log-level-file=off
log-level-console=off
log-level-stderr=error
process-max=2
start-fast=y
expire-auto=n
{compression}
[{stanza}]
pg1-path={data}
pg1-socket-path={socket}
pg1-port={port}
pg1-user={user}
"""
UNKNOWN_VERSION = "is this version of PostgreSQL supported"
WITHOUT_ZSTD = "not compiled with"
# What a recovery of ours changes of a scratch's settings.
RECOVERING = {"hot_standby": "off", "wal_level": "replica", "archive_mode": "off"}

Take = Callable[[Policy], float]


def compare(environment: Environment, mb: int, rounds: int, take: Take) -> dict[str, Any]:
    """The figures, or one that says why there are none. take: carries out a backup; its seconds."""
    program = shutil.which("pgbackrest")
    if program is None:
        return {"pgbackrest": "not installed"}
    with _cluster() as cluster:
        theirs = PgBackRest(program, cluster)
        if not theirs.knows_version():
            return {"pgbackrest": f"{theirs.version()} does not know PostgreSQL {cluster.version()}"}
        cluster.fill(mb)
        theirs.follow()
        ours = Ours(environment, cluster, take)
        return {"pgbackrest": f"{theirs.version()} on PostgreSQL {cluster.version()}",
                **_copies(ours, theirs, rounds), **_restores(ours, theirs, cluster, rounds)}  # fmt: skip


def _copies(ours: "Ours", theirs: "PgBackRest", rounds: int) -> dict[str, float]:
    times = [(ours.copy(), theirs.copy()) for _ in range(rounds)]
    return _compared(times, "backup")


def _restores(ours: "Ours", theirs: "PgBackRest", cluster: "Cluster", rounds: int) -> dict[str, float]:
    def timed(restore: Callable[[Scratch], None]) -> float:
        scratch = Scratch(0, 1)
        scratch.open()
        os.sync()  # nobody waits for what the one before has written
        try:
            began = time.perf_counter()
            restore(scratch)
            os.sync()
            seconds = time.perf_counter() - began
            assert _rows(scratch.server(NAME)) == _rows(cluster.server)
        finally:
            scratch.remove()
        return seconds

    return _compared([(timed(ours.restore), timed(theirs.restore)) for _ in range(rounds)], "restore")


def _compared(times: list[tuple[float, float]], what: str) -> dict[str, float]:
    ours, theirs = (median(one) for one in zip(*times, strict=True))
    return {
        f"pitr_{what}_seconds": round(ours, 2),
        f"pgbackrest_{what}_seconds": round(theirs, 2),
        f"ratio_to_pgbackrest_{what}": round(ours / theirs, 3),
    }


@contextmanager
def programs_of(folder: str) -> Iterator[None]:
    """PostgreSQL's programs are those of the folder, in processes that are started too; "" for the embedded ones."""
    before = settings.POSTGRES_PROGRAMS
    settings.POSTGRES_PROGRAMS = os.environ["POSTGRES_PROGRAMS"] = folder
    try:
        yield
    finally:
        settings.POSTGRES_PROGRAMS = os.environ["POSTGRES_PROGRAMS"] = before


class Cluster:
    """What is copied: durable, with a socket, since pgBackRest connects to nothing else."""

    def __init__(self, place: Place, socket: Path, log: Path) -> None:
        self.place = place
        self.socket = socket
        more = {"unix_socket_directories": str(socket)}
        self.postgres = Postgres(place, password="bench", port=None, log=log, more=more)

    @property
    def server(self) -> Server:
        """Its database."""
        return Server.of_url(self.postgres.url)

    def start(self) -> None:
        """Who gets to the socket is let in: its folder is private."""
        self.postgres.start()
        rules = self.postgres.folder / "pg_hba.conf"
        rules.write_text(f"local all all trust\n{rules.read_text()}")

    def archive(self, command: str) -> None:
        """Start again, and give every segment to the command from now on."""
        self.postgres.settings |= {"archive_mode": "on", "archive_command": command}
        self.postgres.restart()

    def fill(self, mb: int) -> None:
        """As the database of the other figures is."""
        with closing(self.server.connect(autocommit=True)) as connection:
            fill(connection, mb)

    def version(self) -> str:
        """As in "15.18"."""
        return str(_value(self.server, "SELECT current_setting('server_version')")).split()[0]


@contextmanager
def _cluster() -> Iterator[Cluster]:
    home = Path(tempfile.mkdtemp(prefix="controlplane-bench-"))
    home.chmod(0o711)  # the server runs as another account where we are root
    place = prepare_place(home)
    place = replace(place, postgres_programs=Path(server_program(place, "postgres")).parent)
    socket = socket_name()
    socket.mkdir(mode=0o700)
    place.own(socket)
    cluster = Cluster(place, socket, home / "log")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.postgres.stop()
        discard(place.folder)
        shutil.rmtree(socket)
        shutil.rmtree(home)


class Ours:
    """A policy for the cluster, of which every backup is a whole one."""

    def __init__(self, environment: Environment, cluster: Cluster, take: Take) -> None:
        os.environ[REFERENCE] = cluster.postgres.url
        storage = Storage.objects.create(slug="bench-folder", kind="folder", settings={"path": "bench-folder"})
        self.take = take
        self.policy = Policy.objects.create(
            environment=environment, slug="bench-cluster", kind=Kind.PITR, storage=storage, schedule="0 2 * * *",
            settings={"database": f"env:{REFERENCE}"}, proof=Policy.Proof.NEVER, paused=True, full_every=1,
        )  # fmt: skip

    def copy(self) -> float:
        """Its seconds."""
        return self.take(self.policy)

    def restore(self, scratch: Scratch) -> None:
        """The last copy, until the server is open."""
        manifest = Backup.objects.filter(policy=self.policy).latest("pk").manifest
        restore_to(scratch, self.policy, [manifest], None, store_of(self.policy), sealer_of(self.policy), PaperHand())


class PgBackRest:
    """The program, with a repository of its own beside the cluster, and as the server's account."""

    def __init__(self, program: str, cluster: Cluster) -> None:
        self.program = program
        self.cluster = cluster
        self.file = cluster.place.folder / "pgbackrest.conf"
        for name in ("repo", "lock", "spool"):
            folder = cluster.place.folder / name
            folder.mkdir(mode=0o700)
            cluster.place.own(folder)
        self.compression = ZSTD
        self.configure()
        if WITHOUT_ZSTD in self.try_to("archive-push"):  # without a segment, so there is nothing else that it can do
            self.compression = ""
            self.configure()

    def configure(self) -> None:
        """Tell it where the cluster is now: the port may change when that is started again."""
        postgres = self.cluster.postgres
        self.file.write_text(
            CONFIGURATION.format(
                folder=self.cluster.place.folder, compression=self.compression, stanza=STANZA, data=postgres.folder,
                socket=self.cluster.socket, port=postgres.port, user=NAME,
            )
        )  # fmt: skip

    def command(self, name: str, *options: str) -> list[str]:
        """For its configuration."""
        return [self.program, f"--config={self.file}", f"--stanza={STANZA}", *options, name]

    def try_to(self, name: str, *options: str) -> str:
        """Run one of its commands; what went wrong, "" when nothing did."""
        user, group = self.cluster.place.account or (None, None)
        ended = subprocess.run(
            self.command(name, *options), capture_output=True, text=True, check=False, cwd="/", user=user, group=group,
            extra_groups=None if user is None else [], env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        return f"pgbackrest {name} exited {ended.returncode}: {ended.stderr}" if ended.returncode else ""

    def do(self, name: str, *options: str) -> None:
        """Run one of its commands, which has to succeed."""
        if words := self.try_to(name, *options):
            raise RuntimeError(words)

    def version(self) -> str:
        """As in "2.45"."""
        said = subprocess.run([self.program, "version"], capture_output=True, text=True, check=True).stdout
        return re.sub(r"[^\d.]", "", said)

    def knows_version(self) -> bool:
        """Whether it can copy a cluster of this version of PostgreSQL. Its repository is made by the way."""
        words = self.try_to("stanza-create", "--no-online")
        if words and UNKNOWN_VERSION not in words:
            raise RuntimeError(words)
        return not words

    def follow(self) -> None:
        """Let the cluster give it every segment from now on."""
        self.cluster.archive(f"{' '.join(self.command('archive-push'))} %p")
        self.configure()
        self.do("check")

    def copy(self) -> float:
        """Its seconds."""
        began = time.perf_counter()
        self.do("backup", "--type=full")
        return time.perf_counter() - began

    def restore(self, scratch: Scratch) -> None:
        """The last copy, until a server on it is open."""
        data = scratch.folder(scratch.data.name)
        scratch.superuser = NAME
        self.do("restore", f"--pg1-path={data}", "--type=immediate", "--target-action=promote")
        scratch.start(time.sleep, **RECOVERING)


def _rows(server: Server) -> int:
    """Of the largest table."""
    return int(_value(server, "SELECT count(*) FROM views"))


def _value(server: Server, query: str) -> Any:
    with closing(server.connect(autocommit=True)) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]
