"""The pieces of bad luck of a round: to a process at a boundary, to a process at random, to a server, to a provider."""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlplane.clock.registry import duties
from tests.chaos.incidents.provider import ANSWERS
from tests.chaos.incidents.world import LEVELS

if TYPE_CHECKING:
    from tests.chaos.incidents.rounds import Chaos, Round

CLOCKS = ("clock-0", "clock-1")
# Shorter and longer than a sender's lease, and than the patience of whoever waits for a lock.
FREEZE_SECONDS = (3.0, 9.0, 20.0)
# Longer than anybody may wait for it: what it holds has to come free without it. Of a clock, since there are two.
FOR_GOOD_SECONDS = 70.0
# The clock's duties on the way from an alert to a page, and what the web process does for it.
STAGES = (
    "intake", "handle alerts", "group alerts", "say what alerts do", "escalate", "follow up pages", "tell of silence",
    *sorted({f"send {kind}" for _, kinds in LEVELS for kind in kinds}), "web",
)  # fmt: skip
BOUNDARIES = 80  # cards of this kind
BY_WEB = ("intake", "web")


@dataclass(frozen=True)
class Luck:
    """strike: does it, and says whether it met anything. action: the process does it to itself at a boundary."""

    name: str
    strike: Callable[["Chaos", "Round"], bool]


def missing() -> set[str]:
    """Stages that no duty has: it was given another name."""
    return set(STAGES) - {"intake", "web"} - {duty.name for duty in duties()}


def deck() -> list[Luck]:
    """All there is, some of it more than once."""
    itself = [
        Luck(f"{action} at a boundary", _arm(action))
        for action in ("kill", "kill", "kill", "kill", "freeze")
        for _ in range(BOUNDARIES // 5)
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


def _arm(action: str) -> Callable[["Chaos", "Round"], bool]:
    return lambda chaos, current: arm(chaos, current, action)


def arm(chaos: "Chaos", current: "Round", action: str) -> bool:
    """Lay it out where most boundaries have not had their turn yet."""
    seen = Counter(path.name.partition(".")[0] for path in (chaos.folder / "seen").iterdir())
    seen.subtract(path.name.partition(".")[0] for path in (chaos.folder / "struck").iterdir())
    calm = {True: chaos.is_calm(BY_WEB), False: chaos.is_calm(CLOCKS)}
    names = [stage.replace(" ", "-") for stage in STAGES if calm[stage in BY_WEB]]
    free = [name for name in names if not (chaos.folder / "armed" / f"{name}.json").exists()]
    if not free:
        return False
    current.stage = chaos.choice.choices(free, [max(0.3, seen[name]) for name in free])[0]
    path = chaos.folder / "armed" / f"{current.stage}.json"
    path.with_suffix(".new").write_text(json.dumps({"action": action, "round": current.name}))
    path.with_suffix(".new").rename(path)
    return True


def _mood(mood: str) -> Callable[["Chaos", "Round"], bool]:
    def strike(chaos: "Chaos", current: "Round") -> bool:
        (chaos.folder / "moods" / current.name).write_text(mood)
        return True

    return strike


def _kill(names: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    return lambda chaos, current: chaos.is_calm(names) and chaos.kill(chaos.choice.choice(names))


def _kill_all(names: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    return lambda chaos, current: chaos.is_calm(names) and sum(chaos.kill(name) for name in names) > 0


def _freeze(names: tuple[str, ...]) -> Callable[["Chaos", "Round"], bool]:
    def strike(chaos: "Chaos", current: "Round") -> bool:
        process = chaos.crew.processes[chaos.choice.choice(names)]
        if not chaos.is_calm(names) or process.poll() is not None:
            return False
        os.kill(process.pid, signal.SIGSTOP)
        chaos.thaw(process.pid, is_clock=names is CLOCKS)
        return True

    return strike


def _restart(chaos: "Chaos", current: "Round") -> bool:
    if not chaos.is_calm(CLOCKS):
        return False
    chaos.restart_postgres(chaos.choice.choice([signal.SIGINT, signal.SIGKILL]))
    return True


def shuffled(choice: random.Random) -> list[Luck]:
    """Every piece once before any comes again."""
    cards = deck()
    choice.shuffle(cards)
    return cards
