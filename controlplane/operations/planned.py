"""How a plan is shown before it runs and beside what ran: part by part, from what to what."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from controlplane.operations.plans import ALREADY

DIGEST = re.compile(r"\b(sha256:[0-9a-f]{4})[0-9a-f]{8,}([0-9a-f]{4})\b")


@dataclass(frozen=True)
class PlannedPart:
    """Steps under one heading, and what they change."""

    title: str
    before: str
    after: str
    steps: list[str]


class Planned:
    """A plan's JSON, as templates read it."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = plan
        self.summary: str = plan["summary"]

    @cached_property
    def parts(self) -> list[PlannedPart]:
        """The steps, in order."""
        return self._grouped(self._plan["steps"])

    @cached_property
    def recovery(self) -> list[PlannedPart]:
        """The steps that put back what a failed step changed."""
        return self._grouped(self._plan["recovery"])

    @property
    def step_count(self) -> int:
        """How many steps, without those that put back."""
        return len(self._plan["steps"])

    def _grouped(self, steps: Sequence[Mapping[str, Any]]) -> list[PlannedPart]:
        changes = {change["what"]: change for change in self._plan["changes"]} if steps is self._plan["steps"] else {}
        parts = []
        for heading, members in groupby(steps, key=lambda step: str(step["group"])):
            change = changes.get(heading, {})
            titles = [str(step["title"]) for step in members]
            parts.append(PlannedPart(heading, _short(change.get("from", "")), _short(change.get("to", "")), titles))
        return parts

    @property
    def untouched(self) -> list[tuple[str, str]]:
        """What the plan leaves alone, and why."""
        return [(row["what"], row["to"]) for row in self._plan["changes"] if row["to"] == ALREADY]

    @property
    def changes(self) -> list[tuple[str, str, str]]:
        """What becomes different that is no heading of steps: what, from, to."""
        headings = {step["group"] for step in self._plan["steps"]}
        rows = (row for row in self._plan["changes"] if row["what"] not in headings and row["to"] != ALREADY)
        return [(row["what"], _short(row["from"]), _short(row["to"])) for row in rows]


def _short(text: str) -> str:
    """The text with each digest short enough to compare by eye."""
    return DIGEST.sub(r"\1…\2", text)
