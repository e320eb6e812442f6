"""What the clock does: each app registers its functions in `AppConfig.ready()`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Duty:
    """One function the clock calls `every` so many seconds; it returns how many rows it dealt with.

    The function claims its due rows with `FOR UPDATE SKIP LOCKED`, so that any number of clocks may run.
    """

    name: str
    every: float
    function: Callable[[], int]


_duties: dict[str, Duty] = {}


def register(name: str, every: float, function: Callable[[], int]) -> None:
    """Have the clock call the function. Raises ValueError when the name is taken or `every` is not positive."""
    if every <= 0:
        raise ValueError(f"the clock cannot call {name} every {every} seconds")
    duty = Duty(name, every, function)
    if _duties.setdefault(name, duty) != duty:
        raise ValueError(f"the clock's {name} is registered twice")


def duties() -> list[Duty]:
    """Everything registered."""
    return list(_duties.values())
