"""The process that receives WAL: a thread for each policy that goes back to any moment, whatever happens to it."""

import logging
import os
import socket
import threading
from types import TracebackType
from typing import Self

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from backups.models import Kind, Policy, WalStream
from backups.wal_segments import Segment
from backups.wal_stream import Hold, Removed, Stream, hold
from controlplane.operations.errors import LeaseLost, StepError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
PAUSES = (0.5, 1.0, 2.0, 5.0)
PATIENCE_SECONDS = 15.0


class Receiver:
    """Receives the WAL of every policy that is not paused, for the length of a block. Any number may run."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._stopping = threading.Event()
        self._threads: dict[int, _Keeper] = {}
        self._thread = threading.Thread(target=self._keep, name="wal receiver", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put into the storage what has arrived, and let go."""
        self._stopping.set()
        self._thread.join(PATIENCE_SECONDS)

    def _keep(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS if self._look() else 0.5):
            pass
        for keeper in self._threads.values():
            keeper.stopping.set()
        for keeper in self._threads.values():
            keeper.thread.join(PATIENCE_SECONDS)
        connections.close_all()

    def _look(self) -> bool:
        """Start and stop threads, so that there is one for each policy; whether the database answered."""
        try:
            rows = Policy.objects.filter(kind=Kind.PITR, paused=False)
            wanted = {one.pk: (one.settings, one.storage_id, one.recipient, one.identity) for one in rows}
        except (OperationalError, InterfaceError) as error:
            logger.warning("the database is lost, trying again in a moment: %s", str(error).strip())
            connections.close_all()
            return False
        for pk, keeper in list(self._threads.items()):
            if wanted.get(pk) != keeper.settings:
                keeper.stopping.set()
                if not keeper.thread.is_alive():
                    del self._threads[pk]
        for pk, settings in wanted.items():
            if pk not in self._threads:
                self._threads[pk] = _Keeper(pk, settings, self.name)
        return True


class _Keeper:
    """Keeps one stream going: a turn after another, with a pause in between when something is wrong."""

    def __init__(self, policy_id: int, settings: object, receiver: str) -> None:
        self.policy_id = policy_id
        self.settings = settings
        self.receiver = receiver
        self.stopping = threading.Event()
        self._removed: Segment | None = None
        self.thread = threading.Thread(target=self._keep, name=f"wal {policy_id}", daemon=True)
        self.thread.start()

    def _keep(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            failures = 0 if self._turn() else min(failures + 1, len(PAUSES))
            connections.close_all()
            self.stopping.wait(PAUSES[failures - 1] if failures else 0.1)

    def _turn(self) -> bool:
        """Receive until it ends; whether it went well."""
        try:
            policy = Policy.objects.select_related("environment", "storage").filter(pk=self.policy_id).first()
            held = hold(policy, self.receiver) if policy is not None else None
            if policy is None or held is None:
                return False
            try:
                return self._receive(policy, held)
            finally:
                held.release()
        except LeaseLost as error:
            logger.warning("%s", error)
        except DatabaseError as error:
            logger.warning("wal of policy %s: the database is lost: %s", self.policy_id, str(error).strip())
        except Exception:
            logger.exception("wal of policy %s: it is tried again in a moment", self.policy_id)
        return False

    def _receive(self, policy: Policy, held: Hold) -> bool:
        try:
            Stream(policy, held, self.stopping).run(self._removed)
        except Removed as gap:
            self._removed = gap.segment
            return True
        except (StepError, OSError) as error:
            words = str(error) if isinstance(error, StepError) else f"The spool cannot be written: {error.strerror}."
            logger.warning("wal of %s: %s", policy, words)
            WalStream.objects.filter(pk=held.stream_id, fence=held.fence).update(problem=words)
            return False
        self._removed = None
        return True
