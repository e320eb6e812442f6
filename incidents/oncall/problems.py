"""What is wrong with a schedule: times with nobody, people who are nobody, and people whom no message would reach."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.accounts.models import Person
from incidents.escalation.targets import WITHOUT_ADDRESS
from incidents.models import Channel, ContactMethod, EscalationLevel, Schedule
from incidents.oncall.rotation import Rota, Shift, shifts
from incidents.oncall.rows import rotas

AHEAD = timedelta(days=7)


@dataclass(frozen=True)
class Problem:
    """kind: gap, inactive, unknown, unreachable. at: when it begins to matter."""

    kind: str
    words: str
    at: datetime
    person: str = ""


@dataclass(frozen=True)
class Facts:
    """What reaching people depends on. levels: by slug of the schedule, the channels of each level that names it."""

    people: Mapping[str, Person]
    kinds: Mapping[str, frozenset[str]]
    configured: frozenset[str]
    levels: Mapping[str, Sequence[tuple[str, Sequence[str]]]]


def facts_for(names: Iterable[str]) -> Facts:
    """Four queries, however many people and schedules."""
    people = {one.username: one for one in Person.objects.filter(username__in=set(names))}
    kinds: dict[str, set[str]] = {}
    for username, kind in ContactMethod.objects.filter(person__in=people.values()).values_list(
        "person__username", "kind"
    ):
        kinds.setdefault(username, set()).add(kind)
    levels: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for level in EscalationLevel.objects.select_related("policy"):
        for target in level.targets:
            if slug := target.get("schedule"):
                levels.setdefault(slug, []).append((f"L{level.number} of {level.policy.name}", level.channels))
    return Facts(
        people,
        {name: frozenset(found) for name, found in kinds.items()},
        frozenset(Channel.objects.filter(paused=False).values_list("kind", flat=True)),
        levels,
    )


def names_in(rota: Rota) -> set[str]:
    """Everybody a rota names."""
    return {name for layer in rota.layers for name in layer.people} | {one.person for one in rota.stands}


def problems(schedule: Schedule, since: datetime, until: datetime) -> list[Problem]:
    """Of one schedule as it is stored, by when they begin to matter."""
    return problems_of({schedule.slug: rotas([schedule], since, until)[schedule.slug]}, since, until)[schedule.slug]


def problems_of(
    found: Mapping[str, Rota], since: datetime, until: datetime, facts: Facts | None = None
) -> dict[str, list[Problem]]:
    """Of many rotas, stored or only proposed, in four queries. facts: if they are known, and none are needed."""
    facts = facts or facts_for(name for rota in found.values() for name in names_in(rota))
    return {slug: _of_one(slug, rota, facts, since, until) for slug, rota in found.items()}


def _of_one(slug: str, rota: Rota, facts: Facts, since: datetime, until: datetime) -> list[Problem]:
    drawn = shifts(rota, since, until)
    wrong = [*_gaps(drawn), *_strangers(rota, facts, since), *_unreachable(slug, drawn, facts)]
    return sorted(wrong, key=lambda one: one.at)


def _gaps(drawn: Sequence[Shift]) -> list[Problem]:
    """Only ends that are in the span are said, so that the words stay the same while time goes on."""
    return [Problem("gap", _gap_words(one, drawn), one.starts_at) for one in drawn if one.is_gap]


def _gap_words(gap: Shift, drawn: Sequence[Shift]) -> str:
    runs, stays = gap is drawn[0], gap is drawn[-1]
    if runs and stays:
        return "nobody is on call at all"
    if runs:
        return f"nobody is on call until {_time(gap.ends_at)}"
    return f"nobody is on call from {_time(gap.starts_at)} " + ("on" if stays else f"until {_time(gap.ends_at)}")


def _time(at: datetime) -> str:
    return f"{at:%a} {at.day} {at:%b %H:%M} UTC"


def _strangers(rota: Rota, facts: Facts, since: datetime) -> list[Problem]:
    wrong = []
    for name in sorted(names_in(rota)):
        person = facts.people.get(name)
        if person is None:
            words = f"there is nobody called {name}; their turns go to the next"
            wrong.append(Problem("unknown", words, since, name))
        elif not person.is_active:
            words = f"{person.title_name} is not active any more; their turns go to the next"
            wrong.append(Problem("inactive", words, since, name))
    return wrong


def _unreachable(slug: str, drawn: Sequence[Shift], facts: Facts) -> list[Problem]:
    """Each person once, at the first of their shifts."""
    first = {one.person: one.starts_at for one in reversed(drawn) if not one.is_gap}
    wrong = []
    for name, at in first.items():
        person = facts.people.get(name)
        for level, channels in facts.levels.get(slug, []):
            if person is not None and not reachable(facts, name, channels):
                words = f"{person.title_name} has no way to be reached by {' or '.join(channels)}, which {level} uses"
                wrong.append(Problem("unreachable", words, at, name))
                break
    return wrong


def reachable(facts: Facts, name: str, channels: Sequence[str]) -> bool:
    """Whether at least one of the channels is configured and has an address of theirs, or needs none."""
    has = facts.kinds.get(name, frozenset()) | WITHOUT_ADDRESS
    return any(kind in facts.configured and kind in has for kind in channels)
