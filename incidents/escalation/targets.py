"""Whom a level means right now, and by which ways each of them can be reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.accounts.models import Person
from incidents.models import Channel, ContactMethod
from incidents.oncall.now import on_call

# PagerDuty knows by its routing key whom to call: people need no address of their own there.
WITHOUT_ADDRESS = frozenset({"pagerduty"})


@dataclass(frozen=True)
class Reached:
    """One person and the ways to try, in order; none means unreachable."""

    person: Person
    ways: list[dict[str, str]]


def people_for(targets: Sequence[dict[str, Any]], at: datetime) -> list[Person]:
    """Everybody whom the targets of a level mean at a time, each once."""
    found: dict[int, Person] = {}
    for target in targets:
        for person in _people(target, at):
            found.setdefault(person.pk, person)
    return list(found.values())


def _people(target: dict[str, Any], at: datetime) -> list[Person]:
    if schedule := target.get("schedule"):
        return on_call(schedule, at)
    return list(Person.objects.filter(username=target.get("person", ""), is_active=True))


def reach(people: Sequence[Person], channels: Sequence[str]) -> list[Reached]:
    """The ways to each person by these channels, in their order; only channels that are configured."""
    configured = set(Channel.objects.filter(paused=False).values_list("kind", flat=True))
    addresses = {(one.person_id, one.kind): one.address for one in ContactMethod.objects.filter(person__in=people)}
    return [Reached(person, _ways(person, [kind for kind in channels if kind in configured], addresses))
            for person in people]  # fmt: skip


def _ways(person: Person, kinds: Sequence[str], addresses: dict[tuple[int, str], str]) -> list[dict[str, str]]:
    return [
        {"channel": kind, "address": addresses.get((person.pk, kind), "")}
        for kind in kinds
        if kind in WITHOUT_ADDRESS or (person.pk, kind) in addresses
    ]
