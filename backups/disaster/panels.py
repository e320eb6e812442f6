"""What others show on the recovery pages: whoever knows something of a plan registers how to draw it.

The demo draws the requests of its clients there; without it the pages are the same, only less lively.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backups.models import RecoveryPlan


@dataclass(frozen=True)
class Panel:
    """A partial and what it gets as `panel`."""

    template: str
    content: Any


# None: nothing to show of this plan.
Draw = Callable[[RecoveryPlan], Panel | None]
_drawers: list[Draw] = []


def register(draw: Draw) -> None:
    """Have it asked for each plan that a page shows; at most one query each."""
    if draw not in _drawers:
        _drawers.append(draw)


def panels_of(plan: RecoveryPlan) -> Sequence[Panel]:
    """All there is to show of a plan."""
    return [panel for draw in _drawers if (panel := draw(plan)) is not None]
