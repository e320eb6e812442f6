"""The pieces of bad luck of a backup and of its restore test."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from backups.scratch import found, place
from controlplane.embedded.processes import PROC, everybody, send
from controlplane.operations.boundaries import BOUNDARIES
from controlplane.operations.doorbell import ring_workers
from controlplane.operations.models import Operation
from tests.backups.wire import BROKEN, DROPPED, GARBLED, LOST_AFTER, LOST_BEFORE, SILENT, SLOW_DOWN, Fault
from tests.chaos.backups.world import drop_passing
from tests.chaos.faults import ACTIONS, FREEZE_SECONDS, holder

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos, Round

BACKUP, BETWEEN, PROOF = "backup", "between", "proof"
AWAY_SECONDS = 1.5


@dataclass(frozen=True)
class Luck:
    """strike: does it, and says whether it met anything; asked again until it did. phase: of which operation.

    boundary, action: the worker does it to itself (tests/chaos/worker.py). bucket: only where the backups are in one.
    dumps: only where the backups are dumps.
    """

    name: str
    phase: str
    strike: Callable[["Chaos", "Round"], bool]
    boundary: str = ""
    action: str = ""
    bucket: bool = False
    dumps: bool = False

    def fits(self, current: "Round") -> bool:
        """Whether it can meet such a backup."""
        return (current.lane.in_bucket or not self.bucket) and not (self.dumps and current.lane.is_cluster)


def _itself(chaos: "Chaos", current: "Round") -> bool:
    return False


# --- workers ------------------------------------------------------------------------------------------


def _kill_worker(chaos: "Chaos", current: "Round") -> bool:
    return _signalled(holder(current.operation), signal.SIGKILL)


def _freeze_worker(chaos: "Chaos", current: "Round") -> bool:
    """Its pg_dump and pg_restore go on."""
    pid = holder(current.operation)
    if not _signalled(pid, signal.SIGSTOP):
        return False
    assert pid is not None
    chaos.later(FREEZE_SECONDS, lambda: send(pid, signal.SIGCONT))
    return True


def _signalled(pid: int | None, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        if pid:
            os.kill(pid, number)
            return True
    return False


def _kill_parent(chaos: "Chaos", current: "Round") -> bool:
    chaos.crew.kill(chaos.choice.choice(["worker-0", "worker-1"]))
    return True


def _kill_clock(chaos: "Chaos", current: "Round") -> bool:
    chaos.crew.kill("clock")
    return True


def _ring_often(chaos: "Chaos", current: "Round") -> bool:
    for _ in range(3):
        ring_workers(current.operation.pk)
    return True


def _second_worker(chaos: "Chaos", current: "Round") -> bool:
    """The lease is taken from a worker that is well, so that two are at it until the first one finds out."""
    Operation.objects.filter(pk=current.operation.pk).update(lease_until="2000-01-01T00:00:00Z")
    for _ in range(2):
        ring_workers(current.operation.pk)
    return True


# --- programs -----------------------------------------------------------------------------------------


def children(parent: int | None) -> Iterator[tuple[int, str]]:
    """Processes below one: number and name."""
    parents = {one.pid: one for one in everybody()}
    for pid, process in parents.items():
        with suppress(OSError, IndexError, ValueError):
            above = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
            if above == parent or _parent_of(above) == parent:
                yield pid, process.name


def _parent_of(pid: int) -> int:
    return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def _kill_program(*names: str) -> Callable[["Chaos", "Round"], bool]:
    def strike(chaos: "Chaos", current: "Round") -> bool:
        worker = holder(current.operation)
        running = [pid for pid, name in children(worker) if name in names] if worker else []
        return bool(running) and _signalled(chaos.choice.choice(running), signal.SIGKILL)

    return strike


def _scratches(current: "Round") -> Iterator[Path]:
    return (home for home, operation_id, _ in found(place()) if operation_id == current.operation.pk)


def _kill_scratch(chaos: "Chaos", current: "Round") -> bool:
    for home in _scratches(current):
        with suppress(OSError, ValueError, IndexError):
            return _signalled(int((home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    return False


def _cut_fetched(chaos: "Chaos", current: "Round") -> bool:
    for home in _scratches(current):
        with suppress(OSError):
            path = home / "fetched" / "database.dump"
            if size := path.stat().st_size:
                os.truncate(path, chaos.choice.randrange(size))
                return True
    return False


# --- servers ------------------------------------------------------------------------------------------


def _cut_connections(chaos: "Chaos", current: "Round") -> bool:
    with (
        suppress(psycopg.OperationalError),
        closing(psycopg.connect(chaos.company.url, autocommit=True, connect_timeout=5)) as connection,
    ):
        row = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'controlplane'"
            " AND (datname = %s OR backend_type = 'walsender')",
            [current.lane.database],
        ).fetchone()
        return bool(row and row[0])
    return False


def _restart_source(chaos: "Chaos", current: "Round") -> bool:
    chaos.company.restart(chaos.choice.choice([signal.SIGINT, signal.SIGKILL]))
    return True


def _drop_table(chaos: "Chaos", current: "Round") -> bool:
    drop_passing(chaos.company, current.lane.database)
    return True


def _restart_postgres(chaos: "Chaos", current: "Round") -> bool:
    chaos.restart_postgres(chaos.choice.choice([signal.SIGINT, signal.SIGKILL]))
    return True


def _restart_redis(chaos: "Chaos", current: "Round") -> bool:
    assert chaos.stack.redis
    chaos.stack.redis.stop()
    chaos.stack.redis.start()
    return True


# --- the storage --------------------------------------------------------------------------------------


def _kill_s3(chaos: "Chaos", current: "Round") -> bool:
    chaos.s3.kill()
    chaos.later(chaos.choice.uniform(0.1, AWAY_SECONDS), chaos.s3.start)
    return True


def _s3(*faults: Fault, actions: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    def strike(chaos: "Chaos", current: "Round") -> bool:
        for action in actions:
            chaos.s3.proxy.will(action, *(chaos.choice.choice(faults) for _ in range(chaos.choice.randint(1, 8))))
        return True

    return strike


def _damage(how: Callable[[bytes, random.Random], bytes | None]) -> Callable[["Chaos", "Round"], bool]:
    """From now on it must never be proven."""

    def strike(chaos: "Chaos", current: "Round") -> bool:
        assert current.backup is not None
        key = current.backup.manifest["objects"][0]["key"]
        content = how(chaos.places.read(current.lane, key), chaos.choice)
        current.lane.damaged.add(current.backup.pk)
        chaos.places.write(current.lane, key, content)
        return True

    return strike


def _flipped(content: bytes, choice: random.Random) -> bytes:
    at = choice.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << choice.randrange(8))]) + content[at + 1 :]


def _truncated(content: bytes, choice: random.Random) -> bytes:
    return content[: choice.randrange(len(content))]


def _gone(content: bytes, choice: random.Random) -> None:
    return None


WRITES = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject")
READS = ("GetObject", "HeadObject", "ListObjects")
PROGRAMS = ("pg_dump", "pg_basebackup", "pg_restore", "pg_combinebackup")

ANY_TIME = [
    *(Luck(f"{action} at {boundary}", "", _itself, boundary, action) for boundary in BOUNDARIES for action in ACTIONS),
    *[Luck("kill worker", "", _kill_worker)] * 3,
    *[Luck("freeze worker", "", _freeze_worker)] * 3,
    *[Luck("a second worker", "", _second_worker)] * 2,
    *[Luck("kill a program", "", _kill_program(*PROGRAMS))] * 2,
    Luck("kill parent", "", _kill_parent),
    Luck("kill clock", "", _kill_clock),
    Luck("ring often", "", _ring_often),
    Luck("restart PostgreSQL", "", _restart_postgres),
    Luck("restart Redis", "", _restart_redis),
]
LUCK = [
    *(replace(luck, name=f"{phase}: {luck.name}", phase=phase) for phase in (BACKUP, PROOF) for luck in ANY_TIME),
    *[Luck("kill pg_dump", BACKUP, _kill_program("pg_dump", "pg_basebackup"))] * 2,
    *[Luck("kill pg_restore", PROOF, _kill_program("pg_restore"), dumps=True)] * 2,
    *[Luck("kill the scratch server", PROOF, _kill_scratch)] * 3,
    *[Luck("cut what was fetched", PROOF, _cut_fetched, dumps=True)] * 2,
    *[Luck("cut connections", BACKUP, _cut_connections)] * 3,
    *[Luck("restart the source", BACKUP, _restart_source)] * 2,
    *[Luck("drop a table", BACKUP, _drop_table, dumps=True)] * 2,
    *[Luck("flip a bit", BETWEEN, _damage(_flipped))] * 5,
    *[Luck("truncate", BETWEEN, _damage(_truncated))] * 3,
    Luck("take away", BETWEEN, _damage(_gone)),
    *(Luck(f"{phase}: kill S3", phase, _kill_s3, bucket=True) for phase in (BACKUP, PROOF)),
    Luck("S3 is broken", BACKUP, _s3(SLOW_DOWN, BROKEN, actions=WRITES), bucket=True),
    Luck("S3 loses words", BACKUP, _s3(LOST_BEFORE, LOST_AFTER, SILENT, actions=WRITES), bucket=True),
    Luck("S3 loses bytes", BACKUP, _s3(DROPPED, GARBLED, actions=("UploadPart", "PutObject")), bucket=True),
    Luck("S3 cannot be read", PROOF, _s3(SLOW_DOWN, BROKEN, LOST_BEFORE, SILENT, actions=READS), bucket=True),
    Luck("S3 cuts", PROOF, _s3(Fault(cut=20_000), Fault(cut=0), actions=("GetObject",)), bucket=True),
]  # fmt: skip
