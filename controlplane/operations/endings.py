"""What follows in the transaction in which an operation ends: its kind takes note, the deed is compared."""

import logging
from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError, transaction

from controlplane.operations import deeds
from controlplane.operations.events import NewEvent, append
from controlplane.operations.models import Event, Operation
from controlplane.operations.registry import kind_of

logger = logging.getLogger(__name__)


def conclude(operation: Operation) -> dict[str, Any]:
    """Tell its kind of the end and compare what was done with the plan; returns what the audit trail keeps of it."""
    _in_any_case(operation, lambda: kind_of(operation).finished(operation), "its kind could not take note of its end")
    if operation.started_at is None:
        return {}
    said: dict[str, Any] = {}
    _in_any_case(operation, lambda: said.update(deeds.said_of(deeds.compare(operation))), "its deed was not compared")
    return said


def _in_any_case(operation: Operation, follow: Callable[[], None], failed: str) -> None:
    """Whatever comes of it, the end stands: or nobody could ever end it, and it would hold its locks."""
    try:
        with transaction.atomic():
            follow()
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        logger.exception("operation %s: %s", operation.pk, failed)
        words = f"what follows from its end could not be written down: {type(error).__name__}. Tell an administrator."
        append(operation.pk, [NewEvent(Event.Kind.ERROR, words)])
