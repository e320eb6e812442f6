"""A worker that dies at a boundary of a step, in the same process."""

from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.operations import boundaries


class Crash(BaseException):
    """The worker is gone."""


@contextmanager
def dying(boundary: str, step: str) -> Iterator[None]:
    """The worker dies there."""

    def die(at: str, operation_id: int, key: str) -> None:
        if (at, key) == (boundary, step):
            raise Crash

    boundaries.listeners.append(die)
    try:
        yield
    finally:
        boundaries.listeners.clear()
