"""The four keys worked out one by one in plain Python, small enough to be read: what the query is held against."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from deployments.insight.keys import Keys
from deployments.insight.trouble import Trouble

SOON = timedelta(hours=1)


@dataclass(frozen=True)
class Change:
    """A deployment or a rollback that ran and has ended. release: its key. put_back: whether its steps undid it all."""

    operation: int
    release: int
    is_rollback: bool
    succeeded: bool
    began: datetime
    ended: datetime
    release_known: datetime
    put_back: bool = False


@dataclass(frozen=True)
class Judged:
    """A deployment, judged. lead, restored: seconds; None where there is none. went_wrong: why, "" for well."""

    change: Change
    went_wrong: str = ""
    lead: float | None = None
    restored: float | None = None


def judge(changes: Sequence[Change], troubles: Sequence[Trouble]) -> list[Judged]:
    """Each deployment, in order of their ends; rollbacks only judge those before them. changes: of one service."""
    changes = sorted(changes, key=lambda one: one.ended)
    blamed = _blamed(changes, troubles)
    arrived: set[int] = set()
    found = []
    for number, change in enumerate(changes):
        if change.is_rollback:
            continue
        one = _judged(change, changes[number + 1 :], blamed.get(change.operation))
        if change.succeeded and change.release not in arrived:
            arrived.add(change.release)
            one = replace(one, lead=max(0.0, (change.ended - change.release_known).total_seconds()))
        found.append(one)
    return found


def _judged(change: Change, later: Sequence[Change], trouble: Trouble | None) -> Judged:
    good = next((one for one in later if one.succeeded), None)
    if not change.succeeded:
        end = change.ended if change.put_back else good.ended if good else None
        return Judged(change, "failed", restored=_seconds(change.began, end))
    if good is not None and good.is_rollback:
        return Judged(change, "rolled back", restored=_seconds(change.ended, good.ended))
    if trouble is not None:
        return Judged(change, "an incident began", restored=_seconds(trouble.began, trouble.ended))
    return Judged(change)


def _seconds(since: datetime, until: datetime | None) -> float | None:
    return (until - since).total_seconds() if until else None


def _blamed(changes: Sequence[Change], troubles: Sequence[Trouble]) -> dict[int, Trouble]:
    """By operation: the first trouble that began soon after it, and after no later change."""
    ends = [one.ended for one in changes]
    found: dict[int, Trouble] = {}
    for trouble in troubles:
        last = bisect_left(ends, trouble.began) - 1
        if last >= 0 and trouble.began - ends[last] <= SOON and not changes[last].is_rollback:
            found.setdefault(changes[last].operation, trouble)
    return found


def keys_of(judged: Sequence[Judged]) -> Keys:
    """The four of some deployments."""
    leads = [one.lead for one in judged if one.lead is not None]
    restored = [one.restored for one in judged if one.restored is not None]
    return Keys(
        frequency=sum(one.change.succeeded for one in judged),
        ran=len(judged),
        wrong=sum(bool(one.went_wrong) for one in judged),
        lead=median(leads) if leads else None,
        restore=median(restored) if restored else None,
    )
