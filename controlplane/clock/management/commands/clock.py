import gc
import os
import signal
from queue import SimpleQueue
from typing import Any

from django.core.management.base import BaseCommand
from django.urls import resolve

from controlplane.clock.loop import Clock
from controlplane.clock.registry import duties


class Command(BaseCommand):
    help = "Call everything that is due, until Ctrl-C or SIGTERM: lost operations, schedules, probes, expiries."

    def handle(self, *args: Any, **options: Any) -> None:
        # One that freezes in the middle of a transaction gives its rows back, so that another clock can go on.
        os.environ.setdefault("PGOPTIONS", "-c idle_in_transaction_session_timeout=10s")
        # The only queue that a signal handler may put into, whatever the process is doing just then.
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: signals.put(number))
        # Every address there is, read now: the first person to be paged must not wait for it.
        resolve("/")
        gc.freeze()  # what is loaded by now stays: no collection has to look at it again
        with Clock(duties()) as clock:
            names = ", ".join(f"{duty.name} ({duty.every:g} s)" for duty in duties())
            self.stderr.write(f"clock {clock.name}: {names}")
            signals.get()
