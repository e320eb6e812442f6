"""Rules that people set aside (break-glass), and their review afterwards by somebody who took no part.

Whoever lets people set a rule aside notes it here, in the same transaction. What an emergency was, who acted and why
stands in the audit trail already; here it waits until an approver has said in words what to make of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.access import HEAVY, visible_operations
from controlplane.operations.errors import Conflict, Refused
from controlplane.operations.models import Bypass, Operation
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

    Who asked for something while a rule was set aside took part as much as who set it aside.
    """
    own = Operation.objects.filter(_meanwhile(bypasses), requested_by=actor.person).only("scopes", "requested_at")
    asked = list(own)
    return {one.pk: _why_not(one, actor, any(_is_within(each, one) for each in asked)) for one in bypasses}


def _why_not(bypass: Bypass, actor: Actor, asked_meanwhile: bool) -> str:
    if actor.person.pk in bypass.people:
        return "You took part in it: somebody else has to review it."
    if asked_meanwhile:
        return "You asked for something while it was set aside: somebody else has to review it."
    if not actor.may(Role.APPROVER, bypass.scopes):
        return f"Only approvers of {', '.join(bypass.scopes)} who took no part can review it."
    return ""


def waiting_for(actor: Actor) -> list[Bypass]:
    """Those that this person could review now, the oldest first; some of them."""
    waiting = list(visible(actor).filter(reviewed_at=None).order_by("at")[:SHOWN])
    refused = why_not(waiting, actor)
    return [one for one in waiting if not refused[one.pk]]


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
    """The operations that were asked for while each rule was set aside, by its number, as far as the actor may see
    them: the newest of each, and one more than MEANWHILE where there are more. One query for all.
    """
    seen = visible_operations(actor).defer(*HEAVY).order_by("-pk")
    each = [seen.filter(_meanwhile([one]))[: MEANWHILE + 1] for one in bypasses]
    found = {one.pk: one for one in each[0].union(*each[1:], all=True)} if each else {}
    newest = sorted(found.values(), key=lambda one: -one.pk)
    return {one.pk: [other for other in newest if _is_within(other, one)][: MEANWHILE + 1] for one in bypasses}


def _meanwhile(bypasses: Sequence[Bypass]) -> Q:
    wanted = Q(pk__in=[])
    for one in bypasses:
        wanted |= Q(scopes__overlap=one.scopes, requested_at__gte=one.at, requested_at__lte=one.until)
    return wanted


def _is_within(operation: Operation, bypass: Bypass) -> bool:
    return bypass.at <= operation.requested_at <= bypass.until and bool(set(bypass.scopes) & set(operation.scopes))
