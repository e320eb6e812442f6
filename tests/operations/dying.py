"""Workers that die where a test wants it, and those that come after them."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from controlplane.operations import boundaries, engine
from controlplane.operations.context import Context
from controlplane.operations.models import Operation


class Killed(BaseException):
    """The process is gone."""


def die_once_at_each_boundary() -> set[tuple[str, str]]:
    """Kills whoever reaches a boundary of a step for the first time; returns what was reached.

    Whoever calls it clears `boundaries.listeners` afterwards.
    """
    reached: set[tuple[str, str]] = set()

    def die(boundary: str, operation_id: int, step: str) -> None:
        if boundary not in ("claimed", "finished") and (boundary, step) not in reached:
            reached.add((boundary, step))
            raise Killed

    boundaries.listeners.append(die)
    return reached


def die_before_it_is_noted_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker to tell of an effect dies before it has noted in its checkpoint that it told."""
    save = Context.save_checkpoint

    def dying(self: Context, **values: Any) -> None:
        if "told" in values:
            monkeypatch.setattr(Context, "save_checkpoint", save)
            raise Killed
        save(self, **values)

    monkeypatch.setattr(Context, "save_checkpoint", dying)


def run_until_the_end(operation: Operation, turns: int = 200) -> int:
    """Workers come and die until it has ended; each death costs a lease. Returns how many died."""
    deaths = 0
    for number in range(turns):
        try:
            engine.run(operation.pk, f"w{number}")
        except Killed:
            deaths += 1
            Operation.objects.filter(pk=operation.pk).update(lease_until=Now() - timedelta(seconds=1))
        operation.refresh_from_db()
        if operation.is_finished:
            return deaths
    raise AssertionError(f"still {operation.state}: {operation.outcome}")
