"""The evidence of one failover, failback or drill: everything somebody asks for afterwards, from what was recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from backups.disaster.faults import FAULTS
from backups.disaster.overview import took
from backups.disaster.page import RunPage
from backups.models import Recovery
from controlplane.accounts.access import Actor
from controlplane.operations.models import Step
from controlplane.operations.presentation import STEP_TONES
from controlplane.web.templatetags.ui import duration
from controlplane.web.tones import Tone

LONGEST = 200
DEEPEST = 3
ROWS = 60


@dataclass(frozen=True)
class Line:
    """One step as it went. predicted, took: seconds, None where nobody knows."""

    title: str
    group: str
    tone: Tone
    word: str
    started_at: datetime | None
    took: float | None
    predicted: float | None
    attempts: int
    error: str


@dataclass(frozen=True)
class Fact:
    """Something that a step noted, in words."""

    step: str
    name: str
    value: str


@dataclass(frozen=True)
class Reached:
    """A promise, what was predicted, and what was reached; seconds, None where nobody knows."""

    title: str
    promised: float
    predicted: float | None
    reached: float | None

    @property
    def tone(self) -> Tone:
        """Kept or broken."""
        if self.reached is None:
            return Tone.IDLE
        return Tone.OK if self.reached <= self.promised else Tone.BAD

    @property
    def word(self) -> str:
        """The same in words."""
        return {Tone.IDLE: "not measured", Tone.OK: "kept", Tone.BAD: "broken"}[self.tone]

    @property
    def error(self) -> str:
        """How far off the prediction was; "" where there was none."""
        if not self.predicted or self.reached is None:
            return ""
        off = (self.predicted - self.reached) / self.reached if self.reached else 0.0
        return f"{abs(off):.0%} too {'long' if off > 0 else 'short'}"


class Report:
    """What the printed page says."""

    def __init__(self, actor: Actor, recovery: Recovery) -> None:
        self.recovery = recovery
        self.page = RunPage(actor, recovery)
        self.operation = recovery.operation

    @property
    def promises(self) -> list[Reached]:
        """RTO and RPO."""
        plan, recovery = self.recovery.plan, self.recovery
        foretold = self.page.bar.predicted if self.recovery.predicted.get("steps") else None
        rto = Reached("RTO: until people were served", plan.rto_seconds, foretold, recovery.rto_seconds)
        return [rto, Reached("RPO: what was lost", plan.rpo_seconds, self._expected_loss, recovery.rpo_seconds)]

    @property
    def _expected_loss(self) -> float | None:
        as_of = self.page.point_as_of
        return max(0.0, (self.operation.requested_at - as_of).total_seconds()) if as_of else None

    @property
    def took(self) -> float | None:
        """Seconds until people were served, or until it ended."""
        return took(self.recovery)

    @cached_property
    def lines(self) -> list[Line]:
        """Every step that was begun, in order, those that put back or clean up last."""
        known: Mapping[str, float] = self.recovery.predicted.get("steps", {})
        steps = [step for step in self.page.status.main + self.page.status.recovery if step.attempt]
        return [_line(step, known.get(step.key)) for step in steps]

    @property
    def versions(self) -> list[tuple[str, str, str]]:
        """What the plan changed: what, from, to; software with its versions among it."""
        return [(row["what"], row["from"], row["to"]) for row in self.operation.plan["changes"]]

    @property
    def faults(self) -> list[str]:
        """What a game day broke on purpose."""
        return [FAULTS.get(fault, fault) for fault in self.recovery.faults]

    @cached_property
    def facts(self) -> list[Fact]:
        """What the steps noted: rows, checks, addresses, identifiers, times."""
        facts = []
        for step in self.page.status.main + self.page.status.recovery:
            for name, value in flat(step.checkpoint):
                facts.append(Fact(step.spec["title"], name, value))
        return facts[: ROWS * 4]


def _line(step: Step, predicted: float | None) -> Line:
    begun, ended = step.started_at, step.finished_at
    lasted = (ended - begun).total_seconds() if begun and ended else None
    tone, word = STEP_TONES[step.state], step.get_state_display()
    return Line(step.spec["title"], step.spec["group"], tone, word, begun, lasted, predicted, step.attempt, step.error)


def flat(noted: Mapping[str, Any], depth: int = 0) -> list[tuple[str, str]]:
    """A step's notes as pairs of name and words, with a dot for each level: {"rows": {"users": 3}} → rows.users, 3."""
    pairs: list[tuple[str, str]] = []
    for name, value in noted.items():
        if isinstance(value, Mapping) and depth < DEEPEST:
            pairs += [(f"{name}.{below}", words) for below, words in flat(value, depth + 1)]
        elif isinstance(value, list) and depth < DEEPEST and any(isinstance(one, Mapping) for one in value):
            numbered = {str(number): one for number, one in enumerate(value, start=1)}
            pairs += [(f"{name}.{below}", words) for below, words in flat(numbered, depth + 1)]
        elif value not in (None, "", [], {}):
            pairs.append((name, _words(name, value)))
    return pairs[:ROWS]


def _words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("seconds") and isinstance(value, int | float):
        return duration(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))[:LONGEST]
    return str(value)[:LONGEST]
