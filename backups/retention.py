"""Which backups are kept, and why: pure, so that a dry run is the same function, printed.

The guide keeps 30 days. Beside that a policy may keep the last so many, and one a day, week, month or year for so
many of those. Whatever the rules say, these are never let go:

* what a person holds, until they let go of it themselves;
* the last one that was proven by a restore; and as long as none was proven the newest that is not known to fail;
* what a kept one cannot be restored without.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

Reasons = Mapping[int, list[str]]
# No rule reaches further, in days: a hundred years.
LONGEST = 36_600


@dataclass(frozen=True)
class Rules:
    """How much a policy keeps; 0 leaves a rule out. days: of age. The others: so many backups, days, weeks …"""

    days: int = 30
    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


@dataclass(frozen=True)
class Item:
    """A finished backup of one policy.

    hold: why a person keeps it. needs: keys it cannot be restored without. bad: it is known not to restore.
    """

    key: int
    at: datetime
    proven: bool = False
    hold: str = ""
    needs: frozenset[int] = frozenset()
    bad: bool = False


# (rule, one a …, what makes two backups fall into the same)
PERIODS: tuple[tuple[str, str, Callable[[datetime], str]], ...] = (
    ("daily", "day", lambda at: f"{at:%Y-%m-%d}"),
    ("weekly", "week", lambda at: f"{at:%G-W%V}"),
    ("monthly", "month", lambda at: f"{at:%Y-%m}"),
    ("yearly", "year", lambda at: f"{at:%Y}"),
)


def decide(items: Iterable[Item], rules: Rules, now: datetime, zone: ZoneInfo) -> Reasons:
    """By key, why each is kept; an empty list for what may go. zone: in which days and weeks begin."""
    newest_first = sorted(items, key=lambda item: (item.at, item.key), reverse=True)
    why: dict[int, list[str]] = {item.key: [] for item in newest_first}
    for number, item in enumerate(newest_first, start=1):
        if item.hold:
            why[item.key].append(f"held: {item.hold}")
        if item.at > now - timedelta(days=rules.days):
            why[item.key].append(f"younger than {rules.days} days")
        if number <= rules.last:
            why[item.key].append(f"one of the last {rules.last}")
    for rule, period, name in PERIODS:
        named = [(item, name(item.at.astimezone(zone))) for item in newest_first]
        _keep_one_a_period(named, getattr(rules, rule), period, why)
    good = [item for item in newest_first if not item.bad] or newest_first
    floor = next((item for item in good if item.proven), None)
    if floor is not None:
        why[floor.key].append("the last one proven by a restore")
    elif good:
        why[good[0].key].append("the newest, and none is proven yet")
    _keep_what_is_needed(newest_first, why)
    return why


def _keep_one_a_period(
    newest_first: list[tuple[Item, str]], count: int, period: str, why: dict[int, list[str]]
) -> None:
    """The newest of each of the last so many periods that have one. Each item comes with the name of its period."""
    seen: set[str] = set()
    for item, which in newest_first:
        if len(seen) == count:
            return
        if which not in seen:
            seen.add(which)
            why[item.key].append(f"the newest of {period} {which}")


def _keep_what_is_needed(items: list[Item], why: dict[int, list[str]]) -> None:
    """Along the chains to their ends. What is needed but not there any more cannot be kept."""
    by_key = {item.key: item for item in items}
    for item in items:
        if not why[item.key]:
            continue
        reached, ahead = {item.key}, list(item.needs)
        while ahead:
            key = ahead.pop()
            if key in reached or key not in by_key:
                continue
            reached.add(key)
            why[key].append(f"backup {item.key} needs it")
            ahead += by_key[key].needs
