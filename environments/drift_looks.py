"""The looks of one clock that are under way: each place is asked in a thread of its own, and at most once at a time.

1. Who answers is taken at once, whoever else is slow.
2. Who does not answer in time is given up, in words, and what it says later is not listened to.
3. A place whose thread has not come back is not asked again beside it, so no place holds more than one thread; but for
   a thread that has been away for long, which does not come back any more. They are daemons, which end with the clock.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

from django.db import connections

from controlplane.operations.errors import StepError
from environments.balancers import aside
from environments.drivers.base import Comparable, Difference, Instance, PartlyUnknown, Software, Target, Unheard
from environments.side_by_side import begin

logger = logging.getLogger(__name__)

DIFFERENCES = 50  # kept of one look: more is a place where nothing is as it was deployed


@dataclass(frozen=True)
class Question:
    """One place to ask. look: the number of this look. aside: instances that are to get no requests."""

    placement: int
    look: int
    driver: Comparable
    target: Target
    deployed: Software
    aside: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a place said. unknown: why it could not be asked, "" when it could. unheard: what of it said nothing."""

    question: Question
    differences: Sequence[Difference] = field(default_factory=list)
    unknown: str = ""
    unheard: Sequence[Unheard] = ()


@dataclass
class _Look:
    question: Question
    future: "Future[Answer]"
    began: float
    is_given_up: bool = False


class Looks:
    """Those of one process."""

    def __init__(self) -> None:
        self._under_way: dict[int, _Look] = {}

    def places(self) -> list[int]:
        """The placements whose threads have not come back."""
        return list(self._under_way)

    def awaited(self) -> list[Question]:
        """What may still be answered."""
        return [one.question for one in list(self._under_way.values()) if not one.is_given_up]

    def begin(self, question: Question) -> None:
        """Ask one place."""
        future = begin(ask, question, f"drift {question.target.environment}")
        self._under_way[question.placement] = _Look(question, future, time.monotonic())

    def answers(self, asked: Sequence[Question], seconds: float) -> Iterator[Answer]:
        """As they come, of earlier looks too, until those that are named here have answered, or for so many seconds."""
        end, mine = time.monotonic() + seconds, {one.placement for one in asked}
        while True:
            for look in [one for one in list(self._under_way.values()) if one.future.done()]:
                if self._under_way.pop(look.question.placement, None) is look and not look.is_given_up:
                    yield look.future.result()
            left, waiting = end - time.monotonic(), list(self._under_way.values())
            if left <= 0 or not any(one.question.placement in mine for one in waiting):
                return
            wait([one.future for one in waiting], left, FIRST_COMPLETED)

    def give_up(self, seconds: float) -> Iterator[Answer]:
        """Those that have been under way for so long."""
        for look in list(self._under_way.values()):
            if not look.is_given_up and not look.future.done() and time.monotonic() - look.began >= seconds:
                look.is_given_up = True
                yield Answer(look.question, unknown=f"it has not answered within {seconds:g} s")

    def forget(self, seconds: float) -> None:
        """Reckon no more with threads that have been away for so long: their places may be asked again."""
        for placement, look in list(self._under_way.items()):
            if look.is_given_up and time.monotonic() - look.began >= seconds:
                logger.warning("%s: a look of %g s ago has never ended", look.question.target.environment, seconds)
                with suppress(KeyError):
                    del self._under_way[placement]


def ask(question: Question) -> Answer:
    """What the place says, or why it says nothing."""
    try:
        found, unheard = _compared(question)
        return Answer(question, found[:DIFFERENCES], unheard=unheard)
    except StepError as error:
        return Answer(question, unknown=str(error))
    except Exception as error:
        logger.exception("%s: the driver could not look", question.target.environment)
        return Answer(question, unknown=f"the driver could not look: {type(error).__name__}")
    finally:
        connections.close_all()


def _compared(question: Question) -> tuple[list[Difference], list[Unheard]]:
    """What the driver found, then what the load balancer says of those that are to get no requests."""
    unheard: list[Unheard] = []
    try:
        found = list(question.driver.differences(question.target, question.deployed))
    except PartlyUnknown as error:
        found, unheard = list(error.differences), list(error.unheard)
    try:
        found += aside.differences(question.target, question.aside)
    except StepError as error:
        unheard += [Unheard(one.name, str(error), "registration") for one in question.aside]
    return found, unheard
