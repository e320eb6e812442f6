"""What stands on the board: cards of the now-strip, and lines of the matrix that other apps add.

An app that knows something of an environment registers a contributor in `AppConfig.ready()`; the board asks it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.accounts.access import Actor
from controlplane.web.tones import Tone
from environments.models import Environment


@dataclass(frozen=True)
class Card:
    """One thing of the now-strip. percent, since, usual (seconds): of what runs."""

    tone: Tone
    title: str
    text: str
    url: str
    percent: int | None = None
    since: datetime | None = None
    usual: float | None = None


@dataclass(frozen=True)
class LineCell:
    """What a line says of one environment.

    until, since: moments that are said before the text: "restorable to 14:02, proven 3 h ago", each with its word.
    """

    tone: Tone
    word: str
    text: str
    url: str
    until: tuple[str, datetime] | None = None
    since: tuple[str, datetime] | None = None


@dataclass(frozen=True)
class Contribution:
    """What an app adds to the board: a line of the matrix, by environment slug, and cards."""

    title: str
    note: str
    cells: Mapping[str, LineCell] = field(default_factory=dict)
    cards: Sequence[Card] = ()


Contributor = Callable[[Actor, list[Environment]], Contribution]
_contributors: list[Contributor] = []


def register(contributor: Contributor) -> None:
    """Have the board ask it; in a fixed number of queries, however many environments there are."""
    if contributor not in _contributors:
        _contributors.append(contributor)


def contributions(actor: Actor, environments: list[Environment]) -> list[Contribution]:
    """What all of them say to this person."""
    return [contributor(actor, environments) for contributor in _contributors]
