"""The pieces of bad luck. Each is done to one running deployment, or to what all of them stand on."""

import json
import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.operations.boundaries import BOUNDARIES
from controlplane.operations.doorbell import ring_workers
from controlplane.operations.models import Operation

if TYPE_CHECKING:
    from tests.chaos.rounds import Chaos

ACTIONS = ("kill child", "kill parent", "freeze")
# Frozen past the lease, so that another worker has taken over before it goes on.
FREEZE_SECONDS = 7.0


@dataclass(frozen=True)
class Fault:
    """lethal: the deployment loses its worker, so that somebody has to take over."""

    name: str
    lethal: bool
    strike: Callable[["Chaos", Operation], None]
    boundary: str = ""
    action: str = ""

    def arm(self, folder: Path, operation_id: int, choice: random.Random) -> None:
        """Lay the fault where the worker finds it at its boundary."""
        nth = 1 if self.boundary in ("claimed", "finished") else choice.randint(1, 6)
        arm(folder, operation_id, self.boundary, self.action, nth)


def arm(folder: Path, operation_id: int, boundary: str, action: str, nth: int) -> None:
    """Lay it where the worker of the operation finds it when it comes to the boundary for the nth time."""
    path = folder / f"{operation_id}.json"
    path.with_suffix(".new").write_text(json.dumps({"boundary": boundary, "nth": nth, "action": action}))
    path.with_suffix(".new").rename(path)


def thaw_later(pid: int, seconds: float) -> None:
    """Let a frozen process go on after so long, whatever the judge does then: it may be asking that very process."""
    timer = threading.Timer(seconds, _thaw, [pid])
    timer.daemon = True
    timer.start()


def _thaw(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def holder(operation: Operation) -> int | None:
    """The process that holds the operation's lease."""
    operation.refresh_from_db(fields=["worker", "state"])
    return int(operation.worker.rsplit(":", 1)[1]) if operation.worker and not operation.is_finished else None


def _kill_child(chaos: "Chaos", operation: Operation) -> None:
    if pid := holder(operation):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _freeze_child(chaos: "Chaos", operation: Operation) -> None:
    if pid := holder(operation):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            thaw_later(pid, FREEZE_SECONDS)


def _kill_parent(chaos: "Chaos", operation: Operation) -> None:
    chaos.crew.kill(chaos.choice.choice(["worker-0", "worker-1"]))


def _kill(name: str) -> Callable[["Chaos", Operation], None]:
    return lambda chaos, operation: chaos.crew.kill(name)


def _restart_redis(chaos: "Chaos", operation: Operation) -> None:
    assert chaos.stack.redis
    chaos.stack.redis.stop()
    chaos.stack.redis.start()


def _flush_redis(chaos: "Chaos", operation: Operation) -> None:
    chaos.redis.flushall()


def _restart_postgres(chaos: "Chaos", operation: Operation) -> None:
    chaos.restart_postgres(chaos.choice.choice([signal.SIGINT, signal.SIGKILL]))


def _deliver_twice(chaos: "Chaos", operation: Operation) -> None:
    ring_workers(operation.pk)
    ring_workers(operation.pk)


def _wait_for_boundary(chaos: "Chaos", operation: Operation) -> None:
    """The worker does it to itself, see tests/chaos/worker.py."""


FAULTS = [
    *(
        Fault(f"{action} at {boundary}", True, _wait_for_boundary, boundary, action)
        for boundary in BOUNDARIES
        for action in ACTIONS
    ),
    *[Fault("kill child at random", True, _kill_child)] * 3,
    *[Fault("freeze child at random", True, _freeze_child)] * 3,
    *[Fault("kill parent at random", False, _kill_parent)] * 2,
    *[Fault("kill clock", False, _kill("clock"))] * 2,
    *[Fault("kill web", False, _kill("web"))] * 2,
    *[Fault("restart Redis", False, _restart_redis)] * 2,
    *[Fault("flush Redis", False, _flush_redis)] * 2,
    *[Fault("restart PostgreSQL", True, _restart_postgres)] * 2,
    *[Fault("deliver twice", False, _deliver_twice)] * 2,
]
