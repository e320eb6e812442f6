from collections.abc import Callable, Iterator

import pytest

from controlplane.operations import boundaries
from controlplane.operations.errors import LeaseLost

CrashAt = Callable[[str], object]


@pytest.fixture
def crash_at() -> Iterator[CrashAt]:
    """Have the worker die once at a boundary of each step."""

    def set_up(boundary: str) -> None:
        died: set[str] = set()

        def die(name: str, operation_id: int, step: str) -> None:
            if name == boundary and step not in died:
                died.add(step)
                raise LeaseLost("killed")

        boundaries.listeners.append(die)

    yield set_up
    boundaries.listeners.clear()
