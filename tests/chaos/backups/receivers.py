"""The pieces of bad luck of who receives the WAL, and of what it stands on.

The lease of a stream is 10 s: who is frozen for longer has lost it to the next one when it goes on.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import psycopg

from backups.wal_spool import PROGRAM
from controlplane.embedded.processes import directory_of, everybody, send
from tests.backups.wire import BROKEN, DROPPED, GARBLED, LOST_AFTER, LOST_BEFORE, SILENT, SLOW_DOWN
from tests.chaos.backups.bad_luck import WAL, WRITES, Luck, cut, kill_s3, restart_source, s3_faults, signalled
from tests.chaos.crew import RECEIVER

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos, Round

FIRST, SECOND, ELSEWHERE = "receiver", "receiver-2", "receiver-elsewhere"
FROZEN_SECONDS = 13.0
TOGETHER_SECONDS = 6.0


def programs(chaos: "Chaos") -> Iterator[int]:
    """The pg_receivewal of this run."""
    for process in everybody():
        folder = directory_of(process.pid)
        if process.name == PROGRAM and folder is not None and folder.is_relative_to(chaos.folder):
            yield process.pid


def _kill(chaos: "Chaos", current: "Round") -> bool:
    chaos.crew.kill(FIRST)
    return True


def _freeze(chaos: "Chaos", current: "Round") -> bool:
    """Its pg_receivewal goes on."""
    pid = chaos.crew.processes[FIRST].pid
    chaos.later(FROZEN_SECONDS, lambda: send(pid, signal.SIGCONT))
    return signalled(pid, signal.SIGSTOP)


def _second(chaos: "Chaos", current: "Round") -> bool:
    """Two on one machine, with the same spool."""
    _bring(chaos, SECOND, TOGETHER_SECONDS)
    return True


def _second_takes_over(chaos: "Chaos", current: "Round") -> bool:
    """The first one goes on while the second one is at it."""
    _bring(chaos, SECOND, FROZEN_SECONDS + TOGETHER_SECONDS)
    return _freeze(chaos, current)


def _elsewhere_takes_over(chaos: "Chaos", current: "Round") -> bool:
    """The same from another machine, with a spool of its own."""
    folder = chaos.folder / "elsewhere"
    folder.mkdir(exist_ok=True)
    _bring(chaos, ELSEWHERE, FROZEN_SECONDS + TOGETHER_SECONDS, DATA_DIR=str(folder))
    return _freeze(chaos, current)


def _bring(chaos: "Chaos", name: str, seconds: float, **environment: str) -> None:
    chaos.crew.add(name, RECEIVER, **environment)
    chaos.later(seconds, lambda: chaos.crew.retire(name))


def _kill_program(chaos: "Chaos", current: "Round") -> bool:
    return sum(signalled(pid, signal.SIGKILL) for pid in programs(chaos)) > 0


def _freeze_program(chaos: "Chaos", current: "Round") -> bool:
    for pid in programs(chaos):
        signalled(pid, signal.SIGSTOP)
        chaos.later(TOGETHER_SECONDS, lambda pid=pid: send(pid, signal.SIGCONT))  # type: ignore[misc]
        return True
    return False


def _lose_machine(chaos: "Chaos", current: "Round") -> bool:
    """The receiver, its program, and what had arrived and was not in the storage yet."""
    chaos.crew.kill(FIRST)
    for pid in programs(chaos):
        signalled(pid, signal.SIGKILL)
    shutil.rmtree(chaos.folder / "wal", ignore_errors=True)
    return True


def _cut_receiver(chaos: "Chaos", current: "Round") -> bool:
    return cut(current.lane.server, "(application_name = 'controlplane' OR backend_type = 'walsender')")


def _drop_slot(chaos: "Chaos", current: "Round") -> bool:
    """And let the server forget what it kept: the only piece after which there may be a gap, which must be shown."""
    chaos.slots_dropped.append(time.monotonic())
    with (
        suppress(psycopg.Error),
        closing(psycopg.connect(current.lane.server.url, autocommit=True, connect_timeout=5)) as connection,
    ):
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
        for _ in range(2):
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        return True
    return False


PUTS = ("PutObject",)
RECEIVERS = [
    *[Luck("kill the receiver", WAL, _kill)] * 2,
    Luck("freeze the receiver", WAL, _freeze),
    Luck("two receivers", WAL, _second),
    Luck("freeze the receiver, a second takes over", WAL, _second_takes_over),
    Luck("freeze the receiver, another machine takes over", WAL, _elsewhere_takes_over),
    Luck("kill pg_receivewal", WAL, _kill_program),
    Luck("freeze pg_receivewal", WAL, _freeze_program),
    Luck("lose the receiver's machine", WAL, _lose_machine),
    Luck("cut the receiver's connections", WAL, _cut_receiver),
    Luck("restart the receiver's source", WAL, restart_source),
    Luck("drop the receiver's slot", WAL, _drop_slot),
    Luck("kill the receiver's S3", WAL, kill_s3),
    Luck("the receiver's S3 is broken", WAL, s3_faults(SLOW_DOWN, BROKEN, actions=WRITES)),
    Luck("the receiver's S3 loses words", WAL, s3_faults(LOST_BEFORE, LOST_AFTER, SILENT, actions=PUTS)),
    Luck("the receiver's S3 loses bytes", WAL, s3_faults(DROPPED, GARBLED, actions=PUTS)),
]
