"""The escalation matrix as a page: each level, who that is right now, by which channels, after how long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from incidents.escalation.targets import Reached, reach
from incidents.models import EscalationLevel, EscalationPolicy, Schedule, Severity
from incidents.oncall.rotation import who
from incidents.oncall.rows import rotas

INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Holder:
    """Whom one target of a level means now. ways: channels in the order in which they are tried."""

    target: str
    schedule: Schedule | None
    person: Person | None
    ways: list[str]

    @property
    def is_reached(self) -> bool:
        """A page would leave for somebody."""
        return self.person is not None and bool(self.ways)


@dataclass(frozen=True)
class LevelNow:
    """One row of the matrix."""

    level: EscalationLevel
    holders: list[Holder]

    @property
    def after(self) -> str:
        """How long after the opening, in words."""
        return after_words(self.level.after_seconds)


@dataclass(frozen=True)
class PolicyNow:
    """One matrix."""

    policy: EscalationPolicy
    severities: list[Severity]
    levels: list[LevelNow]

    @property
    def unheard(self) -> list[EscalationLevel]:
        """Levels that page nobody anew: by PagerDuty alone, which an earlier level has told of the incident already.

        All events of an incident have one dedup key, so for PagerDuty the second one is news of the first.
        """
        found, told = [], False
        for row in self.levels:
            ways = [holder.ways for holder in row.holders if holder.is_reached]
            if told and ways and all(one == ["pagerduty"] for one in ways):
                found.append(row.level)
            told = told or any("pagerduty" in one for one in ways)
        return found

    @property
    def repeats_words(self) -> str:
        """What happens after the last level."""
        if not self.policy.repeats:
            return "once"
        after = after_words(self.policy.repeat_after_seconds)
        times = "once more" if self.policy.repeats == 1 else f"{self.policy.repeats} times more"
        return f"{times}, {after} after the last level"


@dataclass(frozen=True)
class Matrix:
    """The whole page. quiet: severities for which nobody is paged."""

    policies: list[PolicyNow]
    quiet: list[Severity]


def after_words(seconds: int) -> str:
    """A time after the opening: at once, 15 minutes, 1 hour."""
    if not seconds:
        return "at once"
    for size, word in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {word}{'s' if count != 1 else ''}"
    raise AssertionError("each whole number can be divided by 1")


def matrix() -> Matrix:
    """All policies, in a fixed number of queries."""
    now = database_time()
    rows = EscalationPolicy.objects.prefetch_related("levels")
    policies = sorted(rows, key=lambda one: (sorted(one.severities) or ["none"], one.slug))  # the worst first
    targets = [target for policy in policies for level in policy.levels.all() for target in level.targets]
    schedules = {one.slug: one for one in Schedule.objects.all()}
    holding = _holding(schedules, now)
    names = {target["person"] for target in targets if "person" in target} | set(holding.values())
    people = {one.username: one for one in Person.objects.filter(username__in=names, is_active=True)}
    ways = _ways(policies, list(people.values()))
    drawn = [
        PolicyNow(
            policy,
            [Severity(one) for one in policy.severities],
            [
                LevelNow(level, [_holder(target, level, schedules, holding, people, ways) for target in level.targets])
                for level in policy.levels.all()
            ],
        )
        for policy in policies
    ]
    named = {one for policy in policies for one in policy.severities}
    return Matrix(drawn, [one for one in Severity if one not in named])


def _holding(schedules: Mapping[str, Schedule], now: datetime) -> dict[str, str]:
    found = rotas(list(schedules.values()), now, now + INSTANT)
    return {slug: who(rota, now) for slug, rota in found.items()}


def _ways(policies: Sequence[EscalationPolicy], people: list[Person]) -> dict[str, Reached]:
    """Every way of each person, by username; levels pick theirs from it."""
    kinds = dict.fromkeys(
        channel for policy in policies for level in policy.levels.all() for channel in level.channels
    )  # fmt: skip
    return {one.person.username: one for one in reach(people, list(kinds))}


def _holder(  # noqa: PLR0917 (one cell and all it is made from)
    target: Mapping[str, str],
    level: EscalationLevel,
    schedules: Mapping[str, Schedule],
    holding: Mapping[str, str],
    people: Mapping[str, Person],
    ways: Mapping[str, Reached],
) -> Holder:
    slug = target.get("schedule", "")
    username = holding.get(slug, "") if slug else target.get("person", "")
    reached = ways.get(username)
    has = {way["channel"] for way in reached.ways} if reached else set()
    return Holder(
        slug or username, schedules.get(slug), people.get(username), [kind for kind in level.channels if kind in has]
    )
