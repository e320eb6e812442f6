"""Incidents by which a failover may break the glass: the app that knows them registers how to ask."""

from collections.abc import Callable, Sequence

# The number of an incident and the scopes → why it justifies nothing, in words; "" when it does.
Check = Callable[[int, Sequence[str]], str]
_checks: list[Check] = []


def register(check: Check) -> None:
    """Have it asked."""
    if check not in _checks:
        _checks.append(check)


def why_not(incident: int, scopes: Sequence[str]) -> str:
    """Why this incident is no reason to go without two approvers; "" when it is one."""
    if not _checks:
        return "There are no incidents here."
    return next((words for check in _checks if (words := check(incident, scopes))), "")
