"""The page of contacts: whom one calls outside, and who is called by the escalation, with their ways."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from incidents.models import ChannelKind, Contact, ContactMethod, EscalationLevel, Schedule
from incidents.oncall.now import on_call

# Of so many schedules it is said who has it now; each takes some queries. The others are a click away.
LOOKED_UP = 2
SHOWN = (ChannelKind.PHONE, ChannelKind.SMS, ChannelKind.EMAIL, ChannelKind.SLACK)


@dataclass(frozen=True)
class Called:
    """One person or rotation that a level calls. ways: pairs of kind and address."""

    name: str
    note: str
    ways: list[tuple[str, str]]
    url: str = ""


@dataclass(frozen=True)
class LevelRow:
    """A level of a matrix, with whom it calls now."""

    level: EscalationLevel
    called: list[Called]


def external() -> list[Contact]:
    """The guide's "External Contacts", in their order."""
    return list(Contact.objects.all()[:100])


def escalation() -> list[LevelRow]:
    """Everybody the matrices call, level by level; who they are right now."""
    levels = list(EscalationLevel.objects.select_related("policy").order_by("policy__slug", "number")[:50])
    targets = [target for level in levels for target in level.targets]
    schedules = {one.slug: one for one in Schedule.objects.filter(slug__in=_named(targets, "schedule"))}
    now = database_time()
    turns = {slug: on_call(slug, now) for slug in sorted(schedules)[:LOOKED_UP]}
    people = {one.username: one for one in Person.objects.filter(username__in=_named(targets, "person"))}
    everybody = {*people.values(), *(person for turn in turns.values() for person in turn)}
    ways: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for method in ContactMethod.objects.filter(person__in=everybody, kind__in=SHOWN):
        ways[method.person_id].append((str(method.get_kind_display()), method.address))

    def called(target: Mapping[str, str]) -> list[Called]:
        if slug := target.get("schedule"):
            return _of_schedule(slug, schedules.get(slug), turns.get(slug), ways)
        person = people.get(target.get("person", ""))
        if person is None:
            return [Called(target.get("person", "nobody"), "has no account here", [])]
        return [Called(person.title_name, "", _ways(person, ways))]

    return [LevelRow(level, [one for target in level.targets for one in called(target)]) for level in levels]


def _named(targets: list[Mapping[str, str]], kind: str) -> set[str]:
    return {target[kind] for target in targets if kind in target}


def _of_schedule(
    slug: str, schedule: Schedule | None, turn: list[Person] | None, ways: Mapping[int, list[tuple[str, str]]]
) -> list[Called]:
    if schedule is None:
        return [Called(slug, "there is no such rotation", [])]
    url = schedule.get_absolute_url()
    if turn is None:
        return [Called(schedule.name, "see its calendar", [], url)]
    if not turn:
        return [Called("nobody", f"is on call: a gap in {schedule.name}", [], url)]
    return [Called(person.title_name, f"has {schedule.name} now", _ways(person, ways), url) for person in turn]


def _ways(person: Person, ways: Mapping[int, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    found = ways.get(person.pk, [])
    known = any(kind == ChannelKind.EMAIL.label for kind, _ in found)
    return found if known or not person.email else [*found, (str(ChannelKind.EMAIL.label), person.email)]
