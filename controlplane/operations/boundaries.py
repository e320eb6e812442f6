"""The moments at which a crash is most telling. In production nobody listens.

The chaos runs and the crash tests register a listener that kills the process at a boundary, to show that
whatever dies wherever, nothing is lost and nothing happens twice.
"""

from collections.abc import Callable

BOUNDARIES = ("claimed", "intent_written", "effect_done", "verified", "state_written", "finished")

listeners: list[Callable[[str, int, str], None]] = []


def reached(boundary: str, operation_id: int, step_key: str = "") -> None:
    """Tell whoever listens that this process stands at the boundary."""
    for listener in listeners:
        listener(boundary, operation_id, step_key)
