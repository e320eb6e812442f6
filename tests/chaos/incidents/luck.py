"""The pieces of bad luck of a round: to a process at a boundary, to a process at random, to a server, to a provider."""

import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controlplane.clock.registry import Duty, duties
from tests.chaos.incidents.provider import ANSWERS

if TYPE_CHECKING:
    from tests.chaos.incidents.rounds import Chaos, Round

CLOCKS = ("clock-0", "clock-1")
# Shorter and longer than a sender's lease, and than the patience of whoever waits for a lock.
FREEZE_SECONDS = (3.0, 9.0, 20.0)
PARTS = ("incidents.escalation", "incidents.intake", "incidents.channels", "incidents.holds", "incidents.outbox")


@dataclass(frozen=True)
class Luck:
    """strike: does it, and says whether it met anything. stage: the process does it to itself at a boundary."""

    name: str
    strike: Callable[["Chaos", "Round"], bool]
    stage: str = ""
    action: str = ""


def stages() -> list[str]:
    """The clock's duties that carry an alert to a page, and what the web process does for it."""
    carried = [duty.name for duty in duties() if _module(duty).startswith(PARTS)]
    return [*carried, "intake", "web"]


def _module(duty: Duty) -> str:
    function: Any = duty.function
    return str(getattr(function, "func", function).__module__)


def deck() -> list[Luck]:
    """All there is, some of it more than once."""
    itself = [
        Luck(f"{action} at {stage}", _arm(stage, action), stage, action)
        for stage in stages()
        for action in ("kill", "kill", "kill", "freeze")
    ]
    moods = [Luck(f"provider {mood}", _mood(mood)) for mood in ANSWERS for _ in range(2)]
    others = [
        *[Luck("kill a clock", _kill(CLOCKS))] * 3,
        *[Luck("kill both clocks", _kill_all(CLOCKS))] * 2,
        *[Luck("kill web", _kill(("web",)))] * 2,
        *[Luck("freeze a clock", _freeze(CLOCKS))] * 4,
        *[Luck("freeze web", _freeze(("web",)))] * 2,
        *[Luck("restart PostgreSQL", _restart)] * 3,
    ]
    return itself + moods + others


def _arm(stage: str, action: str) -> Callable[["Chaos", "Round"], bool]:
    def strike(chaos: "Chaos", current: "Round") -> bool:
        path = chaos.folder / "armed" / f"{stage.replace(' ', '-')}.json"
        if not path.exists():
            path.with_suffix(".new").write_text(json.dumps({"stage": stage, "action": action}))
            path.with_suffix(".new").rename(path)
        return True

    return strike


def _mood(mood: str) -> Callable[["Chaos", "Round"], bool]:
    def strike(chaos: "Chaos", current: "Round") -> bool:
        (chaos.folder / "moods" / current.name).write_text(mood)
        return True

    return strike


def _kill(names: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    return lambda chaos, current: chaos.kill(chaos.choice.choice(names))


def _kill_all(names: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    return lambda chaos, current: sum(chaos.kill(name) for name in names) > 0


def _freeze(names: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    def strike(chaos: "Chaos", current: "Round") -> bool:
        process = chaos.crew.processes[chaos.choice.choice(names)]
        if process.poll() is not None:
            return False
        os.kill(process.pid, signal.SIGSTOP)
        chaos.thaw(process.pid)
        return True

    return strike


def _restart(chaos: "Chaos", current: "Round") -> bool:
    chaos.restart_postgres(chaos.choice.choice([signal.SIGINT, signal.SIGKILL]))
    return True


def shuffled(choice: random.Random) -> list[Luck]:
    """Every piece once before any comes again."""
    cards = deck()
    choice.shuffle(cards)
    return cards
