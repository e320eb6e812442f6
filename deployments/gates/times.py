"""Deployments have their times: freezes, and hours in which somebody is there."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from controlplane.operations.gates import Gate, Outcome
from deployments.gates.windows import Hours, Window, closed_by, opening
from deployments.models import FreezeWindow, Policy


def gates(freezes: Sequence[FreezeWindow], policy: Policy, at: datetime) -> list[Gate]:
    """Whether it may start at that moment; what is closed now waits until it opens."""
    windows = [window_of(one) for one in freezes]
    hours = Hours.of(policy.hours)
    found = []
    if windows:
        found.append(_freeze(windows, hours, at))
    if hours.days:
        found.append(_hours(windows, hours, at))
    return found


def window_of(row: FreezeWindow) -> Window:
    """The row as plain data."""
    return Window(row.reason, row.zone, datetime.fromisoformat(row.starts), row.minutes, row.rule)


def _freeze(windows: list[Window], hours: Hours, at: datetime) -> Gate:
    closing = closed_by(windows, at)
    if closing is None:
        return Gate("freeze", "No freeze", Outcome.PASSED, "nothing closes it at that time")
    words = f"closed because of {closing.reason}; {_opens(windows, hours, at, closing.zone)}"
    return Gate("freeze", "No freeze", Outcome.PENDING, words)


def _hours(windows: list[Window], hours: Hours, at: datetime) -> Gate:
    title = "Within working hours"
    if hours.are_open(at):
        return Gate("hours", title, Outcome.PASSED, f"open {hours}")
    words = f"closed, since it is open {hours}; {_opens(windows, hours, at, hours.zone)}"
    return Gate("hours", title, Outcome.PENDING, words)


def _opens(windows: list[Window], hours: Hours, at: datetime, zone: str) -> str:
    moment = opening(windows, hours, at)
    if moment is None:
        return "nobody knows when it opens"
    there = moment.astimezone(ZoneInfo(zone))
    elsewhere = f" ({moment.astimezone(UTC):%H:%M} UTC)" if there.utcoffset() else ""
    return f"opens {there:%a %d %b %H:%M} {zone}{elsewhere}"
