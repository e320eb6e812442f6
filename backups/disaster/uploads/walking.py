"""Going through both sides: counting, and bringing over what is missing where that is wanted."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from backups.disaster.uploads.comparing import (
    NAMED,
    File,
    Outcome,
    Place,
    Proof,
    SourceAway,
    Totals,
    judge,
    side_by_side,
    wanted,
)
from backups.engines.crew import crew
from controlplane.operations.errors import StepError

TELL_SECONDS = 2.0
MOST_TROUBLE = 20  # that many refusals are not about single files any more

Pair = tuple[File | None, File | None]


class Copier(Protocol):
    """Brings single files over, never over something newer."""

    def copy(self, here: File, there: File | None, check: Callable[[], None], begun: Callable[[], None]) -> bool:
        """Whether it was brought over; False where one side changed meanwhile. Raises StepError.

        begun: called once there is something `unfinished`.
        """

    def is_large(self, here: File) -> bool:
        """It takes long, and leaves something behind when the worker is killed on the way."""

    def unfinished(self) -> list[list[str]]:
        """What is under way and would be left behind by a worker that is killed now."""

    def abandon(self, uploads: list[list[str]]) -> None:
        """Take away what such a worker left. Raises StepError."""


@dataclass
class Progress:
    """How far one came. after: the last name that is done, "" at the beginning."""

    after: str = ""
    totals: Totals = field(default_factory=Totals)
    whole: bool = False

    def as_json(self) -> dict[str, Any]:
        """What a row or checkpoint keeps."""
        return {"after": self.after, "totals": self.totals.as_json()}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Progress":
        """From what was kept; from the beginning where nothing was."""
        return cls(kept.get("after", ""), Totals(**kept.get("totals", {})))


@dataclass(frozen=True)
class Walk:
    """One way through both sides. copier: None to compare only. check: raises when this worker may no longer act.

    late_before_ns: what the source has had since before then should have arrived. enough: time is up. tell: called
    every few seconds, and at the end, with how far it came.
    """

    source: Place
    target: Place
    check: Callable[[], None]
    enough: Callable[[], bool]
    tell: Callable[[Progress], None]
    copier: Copier | None = None
    late_before_ns: int = 0

    def go(self, progress: Progress) -> Progress:
        """From where it stands as far as there is time. Raises SourceAway or StepError; what is done stays done."""
        told = time.monotonic()
        totals = progress.totals
        try:
            with crew(self.check) as workers, closing(self._pairs(progress.after)) as pairs:
                for pair, outcome, handled in workers.each(lambda one: self._handle(one, workers.check), pairs):
                    # A large one by this thread, which may keep what is under way before the first part is sent.
                    became = self._bring(pair, workers.check, lambda: self.tell(progress)) if handled.later else handled
                    self._count(totals, pair, outcome, became)
                    progress.after = _name(pair)
                    if time.monotonic() - told >= TELL_SECONDS:
                        self.check()
                        self.tell(progress)
                        told = time.monotonic()
                    if self.enough():
                        return progress
            progress.whole = True
        finally:
            self.tell(progress)
        return progress

    def _pairs(self, after: str) -> Any:
        yield from side_by_side(self.source, self.target, after)

    def _count(self, totals: Totals, pair: Pair, outcome: Outcome, became: "_Became") -> None:
        here, there = pair
        totals.add(outcome, here, there, late_before_ns=self.late_before_ns)
        if became.copied and here:
            totals.brought(here, there, late_before_ns=self.late_before_ns)
        if became.trouble and here:
            totals.left += 1
            if len(totals.trouble) < NAMED:
                totals.trouble.append([here.name, became.trouble])
            if totals.left >= MOST_TROUBLE and not totals.copied:
                raise StepError(f"Nothing can be brought over: {became.trouble}", permanent=True)

    # --- by the threads of the crew ---

    def _handle(self, pair: Pair, check: Callable[[], None]) -> tuple[Pair, Outcome, "_Became"]:
        here, there = pair
        outcome = judge(here, there, self._look)
        if self.copier is None or here is None or not wanted(outcome):
            return pair, outcome, _Became()
        if self.copier.is_large(here):
            return pair, outcome, _Became(later=True)
        return pair, outcome, self._bring(pair, check, lambda: None)

    def _bring(self, pair: Pair, check: Callable[[], None], begun: Callable[[], None]) -> "_Became":
        here, there = pair
        if self.copier is None or here is None:
            return _Became()
        check()
        try:
            return _Became(copied=self.copier.copy(here, there, check, begun))
        except StepError as error:
            check()
            self._ask_source()
            if not error.permanent:
                raise
            return _Became(trouble=str(error))

    def _look(self, name: str) -> tuple[Proof, Proof]:
        try:
            ours = self.source.proof(name)
        except StepError as error:
            raise SourceAway(str(error), permanent=error.permanent) from error
        return ours, self.target.proof(name)

    def _ask_source(self) -> None:
        """A copy between two sides fails for either of them: find out for which."""
        try:
            self.source.ask()
        except StepError as error:
            raise SourceAway(str(error), permanent=error.permanent) from error


@dataclass(frozen=True)
class _Became:
    """What came of one file. later: it is large. trouble: why it could not be brought over."""

    copied: bool = False
    later: bool = False
    trouble: str = ""


def _name(pair: Pair) -> str:
    one = pair[0] or pair[1]
    return one.name if one else ""
