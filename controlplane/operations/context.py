"""What a step function is given; see `registry.StepContext` for what each part promises."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from controlplane.operations.errors import Stopped
from controlplane.operations.events import LogWriter, append
from controlplane.operations.lease import Lease
from controlplane.operations.models import Effect, Operation, Step

# How soon a step that waits hears that somebody asked to stop.
LOOK_SECONDS = 0.5


class Context:
    """The engine's side of `StepContext`."""

    def __init__(self, operation: Operation, step: Step, lease: Lease, log: LogWriter) -> None:
        self._step = step
        self._lease = lease
        self._log = log
        self.operation_id: int = operation.pk
        self.scopes: list[str] = operation.scopes
        self.step_key: str = step.key
        self.fence: int = lease.claim.fence
        self._deadline: tuple[int, float] | None = None
        self._together = False

    @property
    def attempt(self) -> int:
        """Which try this is, 1 is the first."""
        return self._step.attempt

    @property
    def checkpoint(self) -> dict[str, Any]:
        """What earlier turns at this step kept."""
        kept: dict[str, Any] = self._step.checkpoint
        return kept

    def log(self, text: str, *, level: str = "line") -> None:
        """Add a line to the operation's log."""
        self._log.line(text, kind=level, step=self.step_key)

    def mask(self, *secrets: str) -> None:
        """Never show these values in any later line."""
        self._log.mask(secrets)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Say how far the step is, in its own unit."""
        self._write(progress_done=done, progress_total=total, progress_unit=unit)

    def save_checkpoint(self, **values: Any) -> None:
        """Keep facts durably for whoever goes on with this step."""
        self._step.checkpoint = {**self._step.checkpoint, **values}
        self._write(checkpoint=self._step.checkpoint)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write down what comes within in one transaction."""
        self._flush()
        with transaction.atomic():
            self._together = True
            try:
                yield
            finally:
                self._together = False

    def did(self, what: str, subject: str, **facts: Any) -> None:
        """Write down one change that was made in the world."""
        self._flush()
        with transaction.atomic():
            append(self.operation_id, [], fence=self.fence)
            Effect.objects.create(
                operation_id=self.operation_id, step=self.step_key, what=what, subject=subject, facts=facts
            )

    def check(self) -> None:
        """Raise LeaseLost when this worker may no longer act, Stopped when it shall not go on with the step."""
        self._lease.check()
        if self._lease.cancel_requested and self._step.spec.get("interruptible"):
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep, but stop at once when the lease is gone."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._lease.wait(min(left, LOOK_SECONDS))
            self.check()

    def remaining(self) -> float:
        """Seconds until the stored deadline, by the database's clock when the attempt began to be watched."""
        if self._deadline is None or self._deadline[0] != self.attempt:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT extract(epoch from deadline - clock_timestamp()) FROM operations_step WHERE id = %s",
                    [self._step.pk],
                )
                self._deadline = (self.attempt, time.monotonic() + float(cursor.fetchone()[0]))
        return self._deadline[1] - time.monotonic()

    def _flush(self) -> None:
        """Not in the middle of `together`: the lease's thread may be flushing, and wait for the row that we hold."""
        if not self._together:
            self._log.flush()

    def _write(self, **fields: Any) -> None:
        self._flush()
        with transaction.atomic():
            append(self.operation_id, [], fence=self.fence)
            Step.objects.filter(pk=self._step.pk).update(**fields)
