import signal
from queue import SimpleQueue
from typing import Any

from django.core.management.base import BaseCommand

from backups.wal_receiver import Receiver


class Command(BaseCommand):
    help = "Receive the WAL of every policy of kind pitr and keep it in its storage, until Ctrl-C or SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        # The only queue that a signal handler may put into, whatever the process is doing just then.
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: signals.put(number))
        with Receiver() as receiver:
            self.stderr.write(f"wal receiver {receiver.name}")
            signals.get()
