"""How people are reached: addresses by kind, checked, shown in part, and changed with an entry in the audit trail."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import transaction

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Person, Role
from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Invalid
from controlplane.operations.transitions import said
from incidents.channels import CHANNELS
from incidents.escalation.targets import WITHOUT_ADDRESS
from incidents.models import ChannelKind, ContactMethod

# PagerDuty finds people by itself; all the others need an address.
KINDS = [ChannelKind(kind) for kind in ChannelKind.values if kind not in WITHOUT_ADDRESS]
NUMBERS = (ChannelKind.PHONE, ChannelKind.SMS)
LONGEST = 300


def cleaned(kind: str, text: str) -> str:
    """An address as it is stored: without the spaces and hyphens that people write into numbers."""
    text = text.strip()
    return re.sub(r"[\s()./-]", "", text) if kind in NUMBERS else text


def problem_with_address(kind: str, address: str) -> str:
    """What is wrong with a cleaned address, in words that go on from it; "" when nothing is. Its channel knows."""
    if len(address) > LONGEST:
        return f"has {len(address)} characters; shorten it to {LONGEST}"
    return CHANNELS[kind].check_address(address)


def masked(kind: str, address: str) -> str:
    """A number that can be told from others and not be called: +49 ••• 78."""
    return f"{address[:3]} ••• {address[-2:]}" if kind in NUMBERS and address else address


@dataclass(frozen=True)
class Way:
    """One address as a reader may see it."""

    kind: ChannelKind
    address: str


@dataclass(frozen=True)
class ReachOf:
    """One person's. may_change: whether the reader may."""

    person: Person
    ways: list[Way]
    may_change: bool


def everybody(actor: Actor) -> list[ReachOf]:
    """All active people; numbers whole only for operators, and for whose they are. Two queries."""
    rows = Person.objects.filter(is_active=True).prefetch_related("contact_methods")
    return _as_seen(actor, rows.order_by("first_name", "username"))


def one_of(actor: Actor, person: Person) -> ReachOf:
    """The same of one person."""
    return _as_seen(actor, [person])[0]


def _as_seen(actor: Actor, people: Iterable[Person]) -> list[ReachOf]:
    in_full, is_admin = actor.may(Role.OPERATOR, []), actor.is_admin
    return [
        ReachOf(person, _ways(person, whole=in_full or person == actor.person), is_admin or person == actor.person)
        for person in people
    ]


def _ways(person: Person, *, whole: bool) -> list[Way]:
    return [
        Way(ChannelKind(one.kind), one.address if whole else masked(one.kind, one.address))
        for one in person.contact_methods.all()
    ]


def addresses_of(person: Person) -> dict[str, str]:
    """What is stored, by kind."""
    return dict(ContactMethod.objects.filter(person=person).values_list("kind", "address"))


def change(actor: Actor, person: Person, wanted: Mapping[str, str], reason: str) -> None:
    """Set a person's addresses; "" takes one away. Their own, or an admin's to change. Raises Invalid."""
    if actor.person != person:
        require(actor, Role.ADMIN, [], f"change how {person.title_name} is reached")
    reason = said(reason, "Say why: it is kept for good.")
    with transaction.atomic():
        locked = Person.objects.select_for_update(no_key=True).get(pk=person.pk)
        write(actor.who, locked, wanted, reason)


def write(who: Who, person: Person, wanted: Mapping[str, str], reason: str) -> None:
    """The same for whoever has been checked already, in the caller's transaction. Raises Invalid."""
    had = addresses_of(person)
    changes = {kind: [had.get(kind, ""), address] for kind, address in wanted.items() if had.get(kind, "") != address}
    if not changes:
        raise Invalid("Nothing is different.")
    for kind, (_, address) in changes.items():
        if address and (words := problem_with_address(kind, address)):
            raise Invalid(f"“{address}” {words}.")
        rows = ContactMethod.objects
        if address:
            rows.update_or_create(person=person, kind=kind, defaults={"address": address})
        else:
            rows.filter(person=person, kind=kind).delete()
    hidden = {kind: [masked(kind, before), masked(kind, after)] for kind, (before, after) in changes.items()}
    transaction.on_commit(lambda: ring("news", "incidents"))
    record(who, "reach.changed", f"contact methods of {person.title_name}", reason=reason, data={"changes": hidden})
