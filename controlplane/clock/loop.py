"""What one clock process does.

1. Each duty has a thread of its own, so a slow one delays no other, and never runs twice at once in one process.
2. A duty is due at fixed times from its start, by the monotonic clock; times it slept through are left out.
3. What a duty raises is logged, and it is called again when it is next due. If the database is lost, its connection
   is closed and the duty is tried again every second.
4. The process beats once a second, so that pages can say when a clock was last seen.

Which work is due is decided by the duties, in SQL and by database time; so any number of clocks may run.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import Self

from django.db import InterfaceError, OperationalError, connections
from django.db.models.functions import Now

from controlplane.clock.models import Beat
from controlplane.clock.registry import Duty

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
DATABASE_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 0.7
# A duty this rare gives its connection back in between.
RARE_SECONDS = 5.0
FORGET_BEATS_AFTER = timedelta(days=1)


class Clock:
    """Calls duties for the length of a block. name: of this process, unique among all clocks."""

    def __init__(self, duties: Iterable[Duty], name: str | None = None) -> None:
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._stopping = threading.Event()
        beat = Duty("beat", BEAT_SECONDS, self._beat)
        self._threads = [
            # Daemons: a duty in the middle of something is given up at the end; its transaction is rolled back.
            threading.Thread(target=self._keep, args=[duty], name=f"clock {duty.name}", daemon=True)
            for duty in (beat, *duties)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End within a second, whatever the duties do."""
        self._stopping.set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _keep(self, duty: Duty) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            pause = _call(duty)
            now = time.monotonic()
            due = now + pause if pause else max(due + duty.every, now)
        connections.close_all()

    def _beat(self) -> int:
        if not Beat.objects.filter(name=self.name).update(beat_at=Now()):
            Beat.objects.filter(beat_at__lt=Now() - FORGET_BEATS_AFTER).delete()
            Beat.objects.create(name=self.name)
        return 1


def _call(duty: Duty) -> float:
    """Call it once; returns the seconds to wait before trying again if the database was lost, else 0."""
    try:
        done = duty.function()
    except (OperationalError, InterfaceError) as error:
        logger.warning("%s: the database is lost, trying again in a moment: %s", duty.name, str(error).strip())
        connections.close_all()
        return DATABASE_PAUSE_SECONDS
    except Exception:
        logger.exception("%s failed; it is called again when it is next due", duty.name)
        connections.close_all()
        return 0.0
    logger.debug("%s: %d", duty.name, done)
    if duty.every >= RARE_SECONDS:
        connections.close_all()
    return 0.0
