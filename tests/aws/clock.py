"""Time as the simulated cloud has it: minutes of waiting pass in moments, or only when a test says so."""

import time
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """Runs at `speed` virtual seconds a real second; `advance` lets time pass at once.

    speed 0: it stands still, and only `advance` moves it.
    """

    def __init__(self, start: datetime | None = None, speed: float = 0.0) -> None:
        self._at = start or datetime.now(UTC)
        self._since = time.monotonic()
        self._speed = speed

    @property
    def speed(self) -> float:
        """Virtual seconds that pass in one real second."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._at, self._since, self._speed = self.now(), time.monotonic(), speed

    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return self._at + timedelta(seconds=(time.monotonic() - self._since) * self._speed)

    def seconds(self) -> float:
        """The same as seconds since 1970."""
        return self.now().timestamp()

    def advance(self, seconds: float) -> None:
        """Let so many virtual seconds pass at once."""
        self._at += timedelta(seconds=seconds)
