"""Holding an operation: a thread renews the lease and writes the log out, and says when to stop.

A worker that was frozen past its lease finds out by its own monotonic clock before it acts again, and by the
fence if it writes all the same. Database trouble is treated like a lost lease: let go, and another worker
goes on from what was written.
"""

import logging
import threading
import time
from types import TracebackType

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, connections

from controlplane.operations.claims import Claim
from controlplane.operations.errors import LeaseLost
from controlplane.operations.events import LogWriter
from controlplane.operations.states import EXECUTING, State

logger = logging.getLogger(__name__)
FLUSH_SECONDS = 0.1


class Lease:
    """A context manager around the execution of one claimed operation."""

    def __init__(self, claim: Claim, log: LogWriter) -> None:
        self.claim = claim
        self.log = log
        self.cancel_requested = False
        self.world_stopped = False
        self._valid_until = claim.asked + settings.OPERATION_LEASE_SECONDS
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{claim.operation_id}", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost when this worker may no longer act."""
        if self._lost.is_set() or time.monotonic() >= self._valid_until:
            self._lost.set()
            raise LeaseLost(f"operation {self.claim.operation_id}: the lease of fence {self.claim.fence} is gone")

    def wait(self, seconds: float) -> None:
        """Sleep, but stop at once when the lease is gone."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            self._lost.wait(min(left, 0.5))
        self.check()

    def renew(self) -> None:
        """Extend the lease from now on, and hear whether somebody asked to stop, it or the world. Raises LeaseLost."""
        asked = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE operations_operation SET lease_until = clock_timestamp() + make_interval(secs => %s)"
                " WHERE id = %s AND fence = %s AND state = ANY(%s) AND paused_at IS NULL"
                " RETURNING state, EXISTS (SELECT 1 FROM operations_halt WHERE released_at IS NULL)",
                [settings.OPERATION_LEASE_SECONDS, self.claim.operation_id, self.claim.fence, sorted(EXECUTING)],
            )
            row = cursor.fetchone()
        if row is None:
            raise LeaseLost(f"operation {self.claim.operation_id}: somebody else holds it")
        self._valid_until = asked + settings.OPERATION_LEASE_SECONDS
        self.cancel_requested, self.world_stopped = row[0] == State.CANCELLING, row[1]

    def _keep(self) -> None:
        next_renewal = time.monotonic() + settings.OPERATION_HEARTBEAT_SECONDS
        try:
            while not self._stop.wait(FLUSH_SECONDS):
                self.log.flush()
                if time.monotonic() >= next_renewal:
                    self.renew()
                    next_renewal = time.monotonic() + settings.OPERATION_HEARTBEAT_SECONDS
        except (LeaseLost, OperationalError, InterfaceError) as error:
            logger.warning("letting go of operation %s: %s", self.claim.operation_id, error)
            self._lost.set()
        finally:
            connections.close_all()
