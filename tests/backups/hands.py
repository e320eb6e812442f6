"""A hand that an engine works with outside of any operation: it writes down what it is told."""

import time
from typing import Any


class PaperHand:
    """lines: of the log. lost: raised by check() and wait(), if it is set."""

    fence = 1

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.masked: list[str] = []
        self.told: list[tuple[int, int, str]] = []
        self.checkpoint: dict[str, Any] = {}
        self.lost: BaseException | None = None

    def log(self, text: str, *, level: str = "line") -> None:
        self.lines.append(text)

    def mask(self, *secrets: str) -> None:
        self.masked += secrets

    def did(self, what: str, subject: str, **facts: Any) -> None:
        """Not of interest."""

    def progress(self, done: int, total: int, unit: str) -> None:
        self.told.append((done, total, unit))

    def save_checkpoint(self, **values: Any) -> None:
        self.checkpoint |= values

    def check(self) -> None:
        if self.lost is not None:
            raise self.lost

    def wait(self, seconds: float) -> None:
        self.check()
        time.sleep(seconds)
