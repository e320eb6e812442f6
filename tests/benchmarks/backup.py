"""What a backup costs, against the guide's script and against pg_dump alone; S3 is `rclone serve s3` on loopback.

- ours: the whole operation, by a process like a worker, from its plan to its row in the catalog;
- the script: pg_dump into a file, gzip, upload; back: download, gunzip into psql (both by boto3, not by a program that
  would have to start first, which is kind to the script);
- the limit: pg_dump into nothing.

In turns, ROUNDS times, so that what else the machine does falls on all of them; medians.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import boto3
from botocore.config import Config
from django.conf import settings

from backups.engines.restoring import fetch, restore
from backups.jobs import job_of
from backups.models import Backup, BackupRun, Kind, Policy, PolicyClock, Storage, WalStream
from backups.programs import Server, program
from backups.services import request_backup
from backups.wal_archive import Archive, Arrived
from backups.wal_segments import Segment
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.clock.database import database_time
from controlplane.operations.states import State
from environments.models import Environment
from tests.backups.databases import Notes
from tests.backups.stores import rclone_server
from tests.backups.wire import ACCESS_KEY, SECRET_KEY
from tests.benchmarks.backup_data import fill
from tests.benchmarks.pgbackrest import compare, programs_of

MB = 1024
ROUNDS = 3
SEGMENTS = 12
BUCKET = "bench-backups"
SEGMENT_BYTES = 16 * 1024 * 1024


def run(mb: int = MB) -> dict[str, Any]:
    """The figures of `bin/bench backup`. mb: the size of the database."""
    chosen = settings.POSTGRES_PROGRAMS  # of the cluster that pgBackRest copies too; all else is of the stack's server
    with tempfile.TemporaryDirectory(prefix="controlplane-bench-") as folder, rclone_server() as port, programs_of(""):
        bench = Bench(Path(folder), port)
        with bench.database("bench_whole", mb) as whole:
            size = bench.size_of(whole)
            figures = bench.backups(whole) | bench.restores(whole)
        with bench.database("bench_quarter", mb // 4) as quarter:
            figures["peak_rss_mb_at_a_quarter"] = round(bench.ours(quarter)["rss_mb"], 1)
        figures["wal_ms_per_segment"] = bench.wal()
        with programs_of(chosen):
            figures |= compare(bench.environment, mb, ROUNDS, lambda policy: bench.made(policy)["seconds"])
        return {"database_mb": round(size / 1024**2), **figures}


class Bench:
    """The servers and the rows that all of it needs. folder: for the script's files."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.server = Server.of_url(os.environ["DATABASE_URL"])
        endpoint = f"http://127.0.0.1:{port}"
        os.environ.update(BENCH_ACCESS_KEY=ACCESS_KEY, BENCH_SECRET_KEY=SECRET_KEY)
        self.client = boto3.client(
            "s3", region_name="us-east-1", endpoint_url=endpoint, aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY, config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip
        self.client.create_bucket(Bucket=BUCKET)
        self.person = Person.objects.create(username="bench")
        Grant.objects.create(person=self.person, scope="*", role=Role.OPERATOR)
        self.environment = Environment.objects.create(slug="bench", name="Bench", driver="local")
        self.storage = Storage.objects.create(
            slug="bench",
            kind="s3",
            settings={"endpoint_url": endpoint, "bucket": BUCKET, "access_key": "env:BENCH_ACCESS_KEY",
                      "secret_key": "env:BENCH_SECRET_KEY"},
        )  # fmt: skip

    @contextmanager
    def database(self, name: str, mb: int = 0) -> Iterator[Server]:
        """A database, full or empty, dropped at the end."""
        server = self.server.named(name)
        with closing(self.server.named("postgres").connect(autocommit=True)) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            if mb:
                with closing(server.connect(autocommit=True)) as filled:
                    fill(filled, mb)
            yield server
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def size_of(self, server: Server) -> int:
        """In bytes, as the server says."""
        return int(_value(server, "SELECT pg_database_size(current_database())"))

    def policy(self, server: Server, kind: str = Kind.DATABASE) -> Policy:
        """For the server's database."""
        reference = f"BENCH_{server.database.upper()}"
        os.environ[reference] = (
            f"postgres://{server.user}:{server.password}@{server.host}:{server.port}/{server.database}"
        )
        policy, made = Policy.objects.get_or_create(
            environment=self.environment,
            slug=f"{server.database}-{kind}",
            defaults={"kind": kind, "storage": self.storage, "settings": {"database": f"env:{reference}"},
                      "schedule": "0 2 * * *", "proof": Policy.Proof.NEVER, "paused": True},
        )  # fmt: skip
        if made:
            PolicyClock.objects.create(policy=policy)
        return policy

    def ours(self, server: Server) -> dict[str, float]:
        """One backup of the database."""
        return self.made(self.policy(server))

    def made(self, policy: Policy) -> dict[str, float]:
        """One backup, by a process of its own."""
        operation = request_backup(Actor(self.person), policy, reason="bench", cause=BackupRun.Cause.PERSON)
        command = [sys.executable, "-B", "-m", "tests.benchmarks.backup_worker", str(operation.pk)]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        operation.refresh_from_db()
        assert operation.state == State.SUCCEEDED, operation.state
        found: dict[str, float] = json.loads(said)
        return found

    def script(self, server: Server) -> float:
        """The guide's script; its seconds."""
        began = time.perf_counter()
        dump = self.folder / "dump.sql"
        with dump.open("wb") as file:
            subprocess.run([program("pg_dump")], env=server.environment(), stdout=file, check=True)
        subprocess.run(["gzip", "-f", str(dump)], check=True)
        self.client.upload_file(str(dump) + ".gz", BUCKET, "script/dump.sql.gz")
        return time.perf_counter() - began

    def backups(self, server: Server) -> dict[str, Any]:
        """Making them."""
        limits, scripts, ours = [], [], []
        for _ in range(ROUNDS):
            limits.append(_seconds(lambda: _dump_into_nothing(server)))
            ours.append(self.ours(server))
            scripts.append(self.script(server))
        backup = Backup.objects.latest("pk")
        gzipped = (self.folder / "dump.sql.gz").stat().st_size
        seconds = median(one["seconds"] for one in ours)
        return {
            "seconds": round(seconds, 2),
            "limit_seconds": round(median(limits), 2),
            "script_seconds": round(median(scripts), 2),
            "ratio_to_script": round(seconds / median(scripts), 3),
            "ratio_to_limit": round(median(limits) / seconds, 3),
            "peak_rss_mb": round(max(one["rss_mb"] for one in ours), 1),
            "temp_mb": round(max(one["temp_mb"] for one in ours), 1),
            "size_ratio_to_gzip": round(backup.size / gzipped, 3),
        }

    def restores(self, server: Server) -> dict[str, Any]:
        """Bringing the last ones back."""
        scripts, ours = [], []
        for _ in range(ROUNDS):
            with self.database("bench_restored") as target:
                ours.append(_seconds(lambda there=target: self.restore(server, there)))  # type: ignore[misc]
            with self.database("bench_restored") as target:
                scripts.append(_seconds(lambda there=target: self.restore_script(there)))  # type: ignore[misc]
        return {
            "restore_seconds": round(median(ours), 2),
            "restore_script_seconds": round(median(scripts), 2),
            "restore_ratio_to_script": round(median(ours) / median(scripts), 3),
        }

    def restore(self, source: Server, target: Server) -> None:
        """Ours: fetched, checked and loaded."""
        job = job_of(self.policy(source), "")
        manifest = Backup.objects.latest("pk").manifest
        path = fetch(manifest, job.store, job.sealer, self.folder, Notes())
        restore(path, target, Notes())
        path.unlink()

    def restore_script(self, target: Server) -> None:
        """What one does with what the guide's script left."""
        packed = self.folder / "back.sql.gz"
        self.client.download_file(BUCKET, "script/dump.sql.gz", str(packed))
        with subprocess.Popen(["gunzip", "-c", str(packed)], stdout=subprocess.PIPE) as gunzip:
            subprocess.run(
                [program("psql"), "-q"], env=target.environment(), stdin=gunzip.stdout, stdout=subprocess.DEVNULL,
                check=True,
            )  # fmt: skip
        packed.unlink()

    def wal(self) -> float:
        """Milliseconds of the resident receiver for each of many segments: compressed, sent, and written down."""
        policy = self.policy(self.server, Kind.PITR)
        stream = WalStream.objects.create(policy=policy, slot="bench", receiver="bench", fence=1)
        job = job_of(policy, "")
        archive = Archive(stream, job.store, job.sealer, segment_bytes=SEGMENT_BYTES, check=lambda: None)
        times = []
        with self.database("bench_wal") as server:
            paths = self._segments(server)
            for path, following in zip(paths, [*paths[1:], None], strict=True):
                segment = Segment.named(path.name, SEGMENT_BYTES)
                began = time.perf_counter()
                size = archive.put_segment(path, segment, following)
                now = database_time()
                archive.commit(Arrived(segment, (segment.number + 1) * SEGMENT_BYTES, now, size), since=now)
                times.append(time.perf_counter() - began)
        return round(median(times) * 1000, 1)

    def _segments(self, server: Server) -> list[Path]:
        """Real ones, of filling and indexing tables; the oldest first."""
        folder = self.folder / "wal"
        folder.mkdir()
        with closing(server.connect(autocommit=True)) as connection:
            connection.execute("CHECKPOINT")
            before = _value(server, "SELECT pg_walfile_name(pg_current_wal_lsn())")
            fill(connection, SEGMENTS * SEGMENT_BYTES // 1024**2 * 2, checkpoint=False)
        present = _value(server, "SELECT pg_walfile_name(pg_current_wal_lsn())")
        there = Path(_value(server, "SHOW data_directory")) / "pg_wal"
        names = sorted(path.name for path in there.iterdir() if before < path.name < present and len(path.name) == 24)
        return [Path(shutil.copy(there / name, folder / name)) for name in names[:SEGMENTS]]


def _dump_into_nothing(server: Server) -> None:
    subprocess.run([program("pg_dump"), "-Fp"], env=server.environment(), stdout=subprocess.DEVNULL, check=True)


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _value(server: Server, query: str) -> Any:
    with closing(server.connect(autocommit=True)) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]
