"""Carrying out steps: look first, then act, then look again; what is meant is written down before it is done.

1. Done according to the journal: left out.
2. Look. Done: written down. Under way: look again after a while. Not begun: the intent goes into the journal and
   onto the disk, then one attempt is made, then it is looked at again, since an answer may be lost after the change.
3. What does not pass, or takes longer than it may, is put to the person: again, done (by hand), or stop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from backups.disaster.kit.script.errors import Doubt, Ended, Passing, Wrong
from backups.disaster.kit.script.journal import Journal
from backups.disaster.kit.script.talking import Person, say


class State(Enum):
    """How far a step is, as one sees from outside."""

    OPEN = "not begun"
    UNDER_WAY = "under way"
    DONE = "done"


@dataclass(frozen=True)
class Look:
    """What a look at a step found, in words."""

    state: State
    words: str


def nothing(run: "Run") -> None:
    """For steps that only wait and look."""


@dataclass(frozen=True)
class Step:
    """One thing to do. look: changes nothing; raises Passing, Wrong, Doubt. act: one attempt.

    seconds: how long it may take before a person is asked. lenient: what cannot be done within `seconds` is only said
    (fencing a side that may be gone; `proof` decides). proof: what a person has to take upon themselves, in words, when
    it cannot be seen to hold; "" for a step that is none.
    """

    key: str
    title: str
    look: Callable[["Run"], Look]
    act: Callable[["Run"], None] = nothing
    seconds: float = 600.0
    lenient: bool = False
    proof: str = ""


@dataclass
class Run:
    """One process's work on the plan. seconds: between two looks. fence_seconds: patience with the old side."""

    plan: dict[str, Any]
    journal: Journal
    person: Person
    seconds: float = 10.0
    fence_seconds: float = 120.0
    said: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Names this run for good, however often it is started again: the start of its journal."""
        return str(self.journal.entries[0]["hash"])[:16]

    def note(self, step: str, words: str, **data: Any) -> None:
        """Write something down that a later step, or a later start, needs."""
        self.journal.add("note", step, words, **data)

    def noted(self, step: str) -> dict[str, Any]:
        """What was noted there last; empty for nothing."""
        entry = self.journal.last("note", step)
        return dict(entry["data"]) if entry else {}

    def unproven(self) -> list[str]:
        """What was taken upon themselves by people, because nobody could see it."""
        later = {entry["step"] for entry in self.journal.entries if entry["kind"] == "proven"}
        return [one["words"] for one in self.journal.entries if one["kind"] == "risk" and one["step"] not in later]


def carry_out(run: Run, steps: list[Step]) -> None:
    """All of them, in order. Raises Ended."""
    for number, step in enumerate(steps, 1):
        head = f"[{number}/{len(steps)}] {step.title}"
        if (found := run.journal.last("done", step.key)) is not None:
            say(f"{head}: done at {found['at'][11:19]} UTC already")
            continue
        say(head)
        _to_the_end(run, step)


def _to_the_end(run: Run, step: Step) -> None:
    while True:
        try:
            words = _within(run, step)
        except (Passing, Wrong, Doubt) as trouble:
            if not _given_up(run, step, str(trouble)):
                continue
            return
        run.journal.add("done", step.key, words)
        say(f"    {words}")
        return


def _within(run: Run, step: Step) -> str:
    """Look and act until it is done, for as long as the step may take. Raises Passing, Wrong, Doubt."""
    until = time.monotonic() + step.seconds
    trouble = ""
    while True:
        try:
            look = step.look(run)
            if look.state is State.DONE:
                return look.words
            if look.state is State.OPEN and step.act is not nothing:
                run.journal.add("begin", step.key, look.words)
                _told(run, step, look.words)
                step.act(run)
                look = step.look(run)
                if look.state is State.DONE:
                    return look.words
            trouble = f"{step.title}: {look.words}"
            _told(run, step, look.words)
        except Passing as error:
            trouble = str(error)
            _told(run, step, trouble)
        if time.monotonic() + run.seconds > until:
            raise Passing(f"{trouble} That is longer than the {step.seconds:.0f} s it may take.")
        time.sleep(run.seconds)


def _told(run: Run, step: Step, words: str) -> None:
    """Say it, unless it is what was said last."""
    if run.said.get(step.key) != words:
        run.said[step.key] = words
        say(f"    {words}")


def _given_up(run: Run, step: Step, trouble: str) -> bool:
    """What comes of a step that did not succeed: True when the plan goes on without it. Raises Ended."""
    run.journal.add("failed", step.key, trouble)
    say(f"    ! {trouble}")
    if step.lenient:
        run.journal.add("done", step.key, f"not done: {trouble}", skipped=True)
        return True
    if step.proof:
        return _risk_taken(run, step)
    answer = run.person.choose(f"{step.title} did not come about. Try again, is it done by hand, or stop?",
                               "again", "done", "stop")  # fmt: skip
    if answer == "again":
        return False
    if answer == "stop":
        raise Ended("Stopped. Start it again and it goes on from here.")
    words = run.person.in_words("What did you do, and how do you know that it holds?")
    run.journal.add("done", step.key, f"by hand: {words}", by=run.person.name, by_hand=True)
    return True


def _risk_taken(run: Run, step: Step) -> bool:
    say(f"    NOT PROVEN: {step.proof}")
    answer = run.person.choose("Look again, take the risk, or stop?", "again", "risk", "stop")
    if answer == "again":
        return False
    if answer == "stop":
        raise Ended("Stopped before the new side was opened. Start it again and it goes on from here.")
    words = run.person.in_words("Why may the plan go on all the same? Your words go into the journal with your name.")
    run.journal.add("risk", step.key, words, by=run.person.name, about=step.proof)
    run.journal.add("done", step.key, f"not proven; {run.person.name} took the risk: {words}", proven=False)
    return True


def rehearse(run: Run, steps: list[Step]) -> None:
    """--dry-run: look at each step and say how far it is; nothing is changed and nothing is written down."""
    for number, step in enumerate(steps, 1):
        try:
            look = step.look(run)
            words = f"{look.state.value}: {look.words}"
        except (Passing, Wrong, Doubt) as trouble:
            words = f"cannot be seen now: {trouble}"
        say(f"[{number}/{len(steps)}] {step.title}")
        say(f"    {words}")
