"""Rules that people set aside (break-glass), and their review afterwards by somebody who took no part.

Whoever lets people set a rule aside notes it here, in the same transaction. What an emergency was, who acted and why
stands in the audit trail already; here it waits until an approver has said in words what to make of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.access import HEAVY, visible_operations
from controlplane.operations.errors import Conflict, Refused
from controlplane.operations.models import Approval, Bypass, Operation
from controlplane.operations.transitions import said

SHOWN = 20
MEANWHILE = 10


@dataclass(frozen=True)
class Part:
    """Somebody who took part. id: None for whoever was deleted since."""

    id: int | None
    name: str


def note(
    key: str, *, what: str, url: str, scopes: Sequence[str], reason: str, people: Iterable[Part], until: datetime
) -> None:
    """Write down that a rule is set aside, in the caller's transaction; the same key again is no second one."""
    people = list(people)
    Bypass.objects.get_or_create(
        key=key,
        defaults={
            "what": what[:300], "url": url, "scopes": list(scopes), "reason": reason, "until": until,
            "people": [one.id for one in people if one.id is not None],
            "people_names": [one.name for one in people],
        },
    )  # fmt: skip
    transaction.on_commit(lambda: ring("news", "inbox"))


def visible(actor: Actor) -> QuerySet[Bypass]:
    """Those of environments that the actor sees."""
    scopes = actor.scopes(Role.VIEWER)
    return Bypass.objects.all() if scopes is None else Bypass.objects.filter(scopes__overlap=scopes)


def why_not(bypasses: Sequence[Bypass], actor: Actor) -> dict[int, str]:
    """By number: why this person cannot review it, in words; "" when they can. One query for all.

    Who asked for or approved a change of the time in which a rule was set aside took part as much as who set it aside.
    """
    here = Bypass.objects.filter(_used_by(actor.person), pk__in=[one.pk for one in bypasses])
    used = set(here.values_list("pk", flat=True))
    return {one.pk: _why_not(one, actor, one.pk in used) for one in bypasses}


def _why_not(bypass: Bypass, actor: Actor, has_used_it: bool) -> str:
    if actor.person.pk in bypass.people:
        return "You took part in it: somebody else has to review it."
    if has_used_it:
        return "You asked for or approved a change of that time: somebody else has to review it."
    if not actor.may(Role.APPROVER, bypass.scopes):
        return f"Only approvers of {', '.join(bypass.scopes)} who took no part can review it."
    return ""


def _used_by(person: Person) -> Exists:
    """Of a bypass: whether somebody asked for or approved a change of its time."""
    changes = Operation.objects.filter(_in(OuterRef("at"), OuterRef("until")), scopes__overlap=OuterRef("scopes"))
    approvals = Approval.objects.filter(decision=Approval.Decision.APPROVED, person=person, operation=OuterRef("pk"))
    return Exists(changes.filter(Q(requested_by=person) | Q(Exists(approvals))))


def unreviewed(actor: Actor) -> QuerySet[Bypass]:
    """Those of environments that the actor sees, the oldest first."""
    return visible(actor).filter(reviewed_at=None).order_by("pk")


def waiting_for(actor: Actor) -> QuerySet[Bypass]:
    """Those that this very person could review now; the rule is `why_not`, asked of the database."""
    scopes = actor.scopes(Role.APPROVER)
    mine = unreviewed(actor).filter(~_used_by(actor.person)).exclude(people__contains=[actor.person.pk])
    return mine if scopes is None else mine.filter(scopes__contained_by=scopes)


def review(actor: Actor, bypass_id: int, words: str) -> Bypass:
    """Say what to make of it. Raises Refused (took part, or has not the role), Conflict (reviewed), Invalid."""
    words = said(words, "Say what you found: was it right, and what has to change?")
    with transaction.atomic():
        bypass = Bypass.objects.select_for_update().get(pk=bypass_id)
        if why := why_not([bypass], actor)[bypass.pk]:
            raise Refused(why)
        if bypass.reviewed_at is not None:
            raise Conflict(f"{bypass.reviewed_by_name} has reviewed it already.")
        Bypass.objects.filter(pk=bypass.pk).update(
            reviewed_by=actor.person, reviewed_by_name=actor.who.name, reviewed_at=Now(), review=words
        )
        transaction.on_commit(lambda: ring("news", "inbox"))
        data = {"what": bypass.what, "by": bypass.people_names, "because": bypass.reason}
        record(actor.who, "bypass.reviewed", f"bypass {bypass.pk}", scopes=bypass.scopes, reason=words, data=data)
    bypass.refresh_from_db()
    return bypass


def done_meanwhile(bypasses: Sequence[Bypass], actor: Actor) -> dict[int, list[Operation]]:
    """The operations that were asked for or started while each rule was set aside, by its number, as far as the actor
    may see them: what people asked for first, then the newest, and one more than MEANWHILE where there are more. One
    query for all.
    """
    by_machine = ExpressionWrapper(Q(requested_by=None), BooleanField())
    seen = visible_operations(actor).defer(*HEAVY).annotate(by_machine=by_machine).order_by("by_machine", "-pk")
    each = [seen.filter(_in(one.at, one.until), scopes__overlap=one.scopes)[: MEANWHILE + 1] for one in bypasses]
    found: dict[int, Operation] = {one.pk: one for one in each[0].union(*each[1:], all=True)} if each else {}
    ordered = sorted(found.values(), key=lambda one: (one.requested_by_id is not None, one.pk), reverse=True)
    return {one.pk: [other for other in ordered if _is_within(other, one)][: MEANWHILE + 1] for one in bypasses}


def _in(since: Any, until: Any) -> Q:
    """Of an operation: asked for in that time, or started in it. Both ends are times, or expressions of them.

    What was asked for before may have started only since the rule was set aside.
    """
    asked = Q(requested_at__gte=since, requested_at__lte=until)
    return asked | Q(started_at__gte=since, started_at__lte=until)


def _is_within(operation: Operation, bypass: Bypass) -> bool:
    times = (operation.requested_at, operation.started_at)
    return any(at and bypass.at <= at <= bypass.until for at in times) and not {*bypass.scopes}.isdisjoint(
        operation.scopes
    )
