"""The pieces of bad luck of a backup and of bringing it back; those of the WAL are in receivers.py."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from backups.scratch import found
from controlplane.embedded.postgres import Postgres
from controlplane.embedded.processes import PROC, everybody, send
from controlplane.operations.boundaries import BOUNDARIES
from controlplane.operations.doorbell import ring_workers
from controlplane.operations.models import Operation
from tests.backups.wire import BROKEN, DROPPED, GARBLED, LOST_AFTER, LOST_BEFORE, SILENT, SLOW_DOWN, Fault
from tests.chaos.backups.world import MOMENT, OVER, PROOF, Lane
from tests.chaos.backups.writers import drop_passing
from tests.chaos.faults import ACTIONS, FREEZE_SECONDS, holder

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos, Round

# What a round is at, beside the three ways of bringing a backup back. WAL: its receivers are struck, whatever it is at.
BACKUP, BETWEEN, WAL = "backup", "between", "wal"
PHASES = {PROOF: (BACKUP, BETWEEN, PROOF), OVER: (OVER,), MOMENT: (WAL, MOMENT)}
AWAY_SECONDS = 1.5
HELD_SECONDS = 0.3


@dataclass(frozen=True)
class Luck:
    """strike: does it, and says whether it met anything; asked again until it did. phase: of which operation.

    boundary, action: the worker does it to itself (tests/chaos/worker.py). bucket: only where the backups are in one.
    dumps: only where the backups are dumps. waits: for its own moment, so it is asked from the beginning on.
    """

    name: str
    phase: str
    strike: Callable[["Chaos", "Round"], bool]
    boundary: str = ""
    action: str = ""
    bucket: bool = False
    dumps: bool = False
    waits: bool = False

    def fits(self, lane: Lane) -> bool:
        """Whether it can meet its backups."""
        if self.phase not in PHASES[lane.way]:
            return False
        return (lane.in_bucket or not self.bucket) and not (self.dumps and lane.is_cluster)


def _itself(chaos: "Chaos", current: "Round") -> bool:
    return False


# --- workers ------------------------------------------------------------------------------------------


def _kill_worker(chaos: "Chaos", current: "Round") -> bool:
    return signalled(holder(current.operation), signal.SIGKILL)


def _freeze_worker(chaos: "Chaos", current: "Round") -> bool:
    """Its pg_dump and pg_restore go on."""
    pid = holder(current.operation)
    if not signalled(pid, signal.SIGSTOP):
        return False
    assert pid is not None
    chaos.later(FREEZE_SECONDS, lambda: send(pid, signal.SIGCONT))
    return True


def signalled(pid: int | None, number: signal.Signals) -> bool:
    """Send it; whether there is such a process."""
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
        return bool(running) and signalled(chaos.choice.choice(running), signal.SIGKILL)

    return strike


def _scratches(chaos: "Chaos", current: "Round") -> Iterator[Path]:
    # Not where the product says they are: a worker that is frozen there, by us, would have us wait for it for ever.
    where = chaos.company.place
    return (home for home, operation_id, _ in found(where) if operation_id == current.operation.pk)


def _kill_scratch(chaos: "Chaos", current: "Round") -> bool:
    for home in _scratches(chaos, current):
        with suppress(OSError, ValueError, IndexError):
            return signalled(int((home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    return False


def _cut_fetched(chaos: "Chaos", current: "Round") -> bool:
    for home in _scratches(chaos, current):
        with suppress(OSError):
            path = home / "fetched" / "database.dump"
            if size := path.stat().st_size:
                os.truncate(path, chaos.choice.randrange(size))
                return True
    return False


# --- servers ------------------------------------------------------------------------------------------


def _cut_connections(chaos: "Chaos", current: "Round") -> bool:
    lane = current.lane
    return cut(lane.server, "application_name = 'controlplane' AND (datname = %s OR backend_type = 'walsender')",
               lane.database)  # fmt: skip


def _cut_restore(chaos: "Chaos", current: "Round") -> bool:
    """Into the database beside it, or from where they are renamed."""
    words = "application_name = 'controlplane' AND (datname LIKE %s OR datname = 'postgres')"
    return cut(current.lane.server, words, f"{current.lane.database}%")


def cut(server: Postgres, which: str, *values: str) -> bool:
    """End connections of a server by a condition on pg_stat_activity; whether there were any."""
    query = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {which}"
    with (
        suppress(psycopg.OperationalError),
        closing(psycopg.connect(server.url, autocommit=True, connect_timeout=5)) as connection,
    ):
        row = connection.execute(query.encode(), values).fetchone()
        return bool(row and row[0])
    return False


def restart_source(chaos: "Chaos", current: "Round") -> bool:
    """In order, or as a crash."""
    current.lane.server.restart(chaos.choice.choice([signal.SIGINT, signal.SIGKILL]))
    return True


def _drop_table(chaos: "Chaos", current: "Round") -> bool:
    drop_passing(current.lane.server, current.lane.database)
    return True


def _restart_postgres(chaos: "Chaos", current: "Round") -> bool:
    chaos.restart_postgres(chaos.choice.choice([signal.SIGINT, signal.SIGKILL]))
    return True


def _restart_redis(chaos: "Chaos", current: "Round") -> bool:
    assert chaos.stack.redis
    chaos.stack.redis.stop()
    chaos.stack.redis.start()
    return True


# --- while the database that is replaced lets nobody in ------------------------------------------------


class Grip:
    """Holds a database so that nobody can rename it, from another one: what replaces it shuts it and has to wait."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.holder = psycopg.connect(lane.server.url, connect_timeout=5, options="-c lock_timeout=1s")
        self.holder.execute(f"COMMENT ON DATABASE {lane.database} IS 'held'".encode())
        self.viewer = psycopg.connect(lane.server.url, connect_timeout=5, autocommit=True)

    def is_shut(self) -> bool:
        """Whether it lets nobody in now."""
        query = "SELECT datallowconn FROM pg_database WHERE datname = %s"
        row = self.viewer.execute(query, [self.lane.database]).fetchone()
        return row is not None and not row[0]

    def release(self) -> None:
        """The comment was never made."""
        for connection in (self.holder, self.viewer):
            connection.close()


def _while_shut(strike: Callable[["Chaos", "Round"], bool]) -> Callable[["Chaos", "Round"], bool]:
    def strike_then(chaos: "Chaos", current: "Round") -> bool:
        try:
            if current.grip is None:
                current.grip = Grip(current.lane)
            if not current.grip.is_shut() or not strike(chaos, current):
                return False
        except psycopg.Error:  # somebody else's bad luck: the source was restarted
            if current.grip is not None:
                current.grip.release()
                current.grip = None
            return False
        chaos.later(HELD_SECONDS, current.grip.release)
        return True

    return strike_then


# --- the storage --------------------------------------------------------------------------------------


def kill_s3(chaos: "Chaos", current: "Round") -> bool:
    """It comes back in a moment."""
    chaos.s3.kill()
    chaos.later(chaos.choice.uniform(0.1, AWAY_SECONDS), chaos.s3.start)
    return True


def s3_faults(*faults: Fault, actions: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    """Some of the next requests for each action meet one of these."""

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
OVER_AND_OVER = [
    *[Luck("cut connections", OVER, _cut_restore)] * 2,
    *[Luck("restart the source", OVER, restart_source)] * 2,
    Luck("kill pg_dump", OVER, _kill_program("pg_dump")),
    *[Luck("kill pg_restore", OVER, _kill_program("pg_restore"))] * 2,
    Luck("kill worker while it is shut", OVER, _while_shut(_kill_worker), waits=True),
    Luck("freeze worker while it is shut", OVER, _while_shut(_freeze_worker), waits=True),
    Luck("cut connections while it is shut", OVER, _while_shut(_cut_restore), waits=True),
    Luck("restart the source while it is shut", OVER, _while_shut(restart_source), waits=True),
]
TO_A_MOMENT = [
    Luck("kill worker", MOMENT, _kill_worker),
    Luck("freeze worker", MOMENT, _freeze_worker),
    Luck("a second worker", MOMENT, _second_worker),
    Luck("kill a program", MOMENT, _kill_program(*PROGRAMS)),
    Luck("kill the scratch server", MOMENT, _kill_scratch),
    Luck("restart the source", MOMENT, restart_source),
    Luck("S3 cannot be read", MOMENT, s3_faults(SLOW_DOWN, BROKEN, LOST_BEFORE, SILENT, actions=READS)),
    Luck("S3 cuts", MOMENT, s3_faults(Fault(cut=20_000), Fault(cut=0), actions=("GetObject",))),
    Luck("kill child at effect_done", MOMENT, _itself, "effect_done", "kill child"),
]
LUCK = [
    *(replace(luck, name=f"{phase}: {luck.name}", phase=phase) for phase in (BACKUP, PROOF, OVER) for luck in ANY_TIME),
    *(replace(luck, name=f"{luck.phase}: {luck.name}") for luck in OVER_AND_OVER + TO_A_MOMENT),
    *[Luck("kill pg_dump", BACKUP, _kill_program("pg_dump", "pg_basebackup"))] * 2,
    *[Luck("kill pg_restore", PROOF, _kill_program("pg_restore"), dumps=True)] * 2,
    *[Luck("kill the scratch server", PROOF, _kill_scratch)] * 3,
    *[Luck("cut what was fetched", PROOF, _cut_fetched, dumps=True)] * 2,
    *[Luck("cut connections", BACKUP, _cut_connections)] * 3,
    *[Luck("restart the source", BACKUP, restart_source)] * 2,
    *[Luck("drop a table", BACKUP, _drop_table, dumps=True)] * 2,
    *[Luck("flip a bit", BETWEEN, _damage(_flipped))] * 5,
    *[Luck("truncate", BETWEEN, _damage(_truncated))] * 3,
    Luck("take away", BETWEEN, _damage(_gone)),
    *(Luck(f"{phase}: kill S3", phase, kill_s3, bucket=True) for phase in (BACKUP, PROOF)),
    Luck("S3 is broken", BACKUP, s3_faults(SLOW_DOWN, BROKEN, actions=WRITES), bucket=True),
    Luck("S3 loses words", BACKUP, s3_faults(LOST_BEFORE, LOST_AFTER, SILENT, actions=WRITES), bucket=True),
    Luck("S3 loses bytes", BACKUP, s3_faults(DROPPED, GARBLED, actions=("UploadPart", "PutObject")), bucket=True),
    Luck("S3 cannot be read", PROOF, s3_faults(SLOW_DOWN, BROKEN, LOST_BEFORE, SILENT, actions=READS), bucket=True),
    Luck("S3 cuts", PROOF, s3_faults(Fault(cut=20_000), Fault(cut=0), actions=("GetObject",)), bucket=True),
]  # fmt: skip
