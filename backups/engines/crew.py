"""A few threads that do small, independent pieces of work, whose results come in the order of the work.

Many small files go to a storage one answer at a time; a few at once take a fraction of that. Threads use neither the
database nor the step's context, but for its `check`: whoever goes through the results does.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

from controlplane.operations.errors import StepError

Work = TypeVar("Work")
Result = TypeVar("Result")

THREADS = 6
AHEAD = 4 * THREADS


class Crew:
    """See `crew`."""

    def __init__(self, pool: ThreadPoolExecutor, check: Callable[[], None]) -> None:
        self._pool = pool
        self._check = check
        self.stopped = Event()

    def check(self) -> None:
        """For the threads, before anything that has an effect. Raises when it is not wanted any more."""
        if self.stopped.is_set():
            raise StepError("It is not wanted any more.")
        self._check()

    def each(self, function: Callable[[Work], Result], work: Iterable[Work]) -> Iterator[Result]:
        """The results, in order; an error where the piece's result would be. Only so many pieces run ahead."""
        waiting: deque[Future[Result]] = deque()
        for one in work:
            waiting.append(self._pool.submit(function, one))
            if len(waiting) >= AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def crew(check: Callable[[], None]) -> Iterator[Crew]:
    """A crew; however this ends, none of its threads is left. check: raises when this worker may no longer act."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="files") as pool:
        made = Crew(pool, check)
        try:
            yield made
        finally:
            made.stopped.set()
            pool.shutdown(cancel_futures=True)
