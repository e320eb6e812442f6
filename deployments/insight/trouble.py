"""Times of trouble in an environment, as the app that knows incidents tells them: deployments do not know it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Trouble:
    """Something serious. ended: None while it goes on."""

    began: datetime
    ended: datetime | None


Source = Callable[[str, datetime], list[Trouble]]
_sources: list[Source] = []


def register(source: Source) -> None:
    """Have it asked: for the slug of an environment and since when, in one query of some hundred rows at most."""
    if source not in _sources:
        _sources.append(source)


def troubles(environment: str, since: datetime) -> list[Trouble]:
    """What began there since then, the oldest first."""
    return sorted((one for source in _sources for one in source(environment, since)), key=lambda one: one.began)
