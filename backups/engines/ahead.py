"""Stages of a pipe, each in a thread of its own, a few pieces ahead of the next."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

Piece = TypeVar("Piece")

TICK_SECONDS = 1.0


class Ahead(Generic[Piece]):
    """What `source` yields, made by another thread, at most `room` pieces early.

    An error of the source is raised where its piece would have come. tick: called by the reader, every second in
    which nothing came. After `close`, which waits for the thread, nothing comes any more.
    """

    def __init__(
        self, source: Generator[Piece, None, None], room: int, tick: Callable[[], None] = lambda: None
    ) -> None:
        self._source, self._room, self._tick = source, room, tick
        self._ready: deque[Piece] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def _make(self) -> None:
        try:
            for piece in self._source:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or len(self._ready) < self._room)
                    if self._ended:
                        return
                    self._ready.append(piece)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 -- whoever reads raises it
            self._failure = error
        finally:
            self._source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def __iter__(self) -> Iterator[Piece]:
        while True:
            with self._changed:
                came = self._changed.wait_for(lambda: bool(self._ready) or self._ended, TICK_SECONDS)
                pieces = [self._ready.popleft()] if self._ready else []
                self._changed.notify_all()
            yield from pieces
            if not came:
                self._tick()
            elif not pieces:
                break
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Nothing is wanted any more; the thread ends with the piece it is at."""
        with self._changed:
            self._ended = True
            self._ready.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self.stop()
        self._thread.join()
