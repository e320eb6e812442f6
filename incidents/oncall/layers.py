"""Changing the layers of a schedule: what was previewed, and nothing else, becomes the schedule."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from incidents.models import Layer, Schedule
from incidents.oncall.rotation import LayerRule
from incidents.oncall.rows import rule_of
from incidents.oncall.services import short_reason

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Plan:
    """A schedule as somebody wants it; layers: the ground first."""

    name: str
    time_zone: str
    layers: tuple[LayerRule, ...]


NOTHING = Plan("", "", ())


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - {"localtime"}


def problem_with_zone(name: str) -> str:
    """What is wrong with the name of a time zone; "" when nothing is."""
    return "" if name in _zones() else 'is no time zone; write a name such as "Europe/Berlin" or "UTC"'


def stored(schedule: Schedule) -> Plan:
    """The schedule as it is."""
    rules = tuple(rule_of(layer) for layer in Layer.objects.filter(schedule=schedule).order_by("position"))
    return Plan(schedule.name, schedule.time_zone, rules)


def as_words(rule: LayerRule) -> dict[str, Any]:
    """A layer as the audit trail and the difference of the file show it."""
    fields = asdict(rule) | {"days": [WEEKDAYS[day] for day in sorted(rule.days)], "people": list(rule.people)}
    return {name: value if isinstance(value, int | list) else str(value or "") for name, value in fields.items()}


def digest_of(before: Plan, after: Plan) -> str:
    """What a preview showed: the plan, and what it would replace."""
    both = [[one.name, one.time_zone, [as_words(rule) for rule in one.layers]] for one in (before, after)]
    return hashlib.sha256(json.dumps(both, cls=DjangoJSONEncoder, sort_keys=True).encode()).hexdigest()


def change(actor: Actor, schedule: Schedule, plan: Plan, *, shown: str, reason: str) -> None:
    """Make the schedule so. shown: the digest of the preview that was looked at. Admins only. Raises Conflict."""
    require(actor, Role.ADMIN, [], f"change the layers of {schedule.slug}")
    reason = short_reason(reason)
    with transaction.atomic():
        kept = Schedule.objects.select_for_update().get(pk=schedule.pk)
        before = stored(kept)
        if before == plan:
            raise Invalid("Nothing is different.")
        if digest_of(before, plan) != shown:
            raise Conflict("This is not what the preview showed; look at it below, then save it.")
        write(kept, plan)
        transaction.on_commit(lambda: ring("news", "incidents"))
        record_change(actor.who, "oncall.layers_changed", kept, difference(before, plan), reason)


def create(actor: Actor, slug: str, plan: Plan, *, reason: str, shown: str | None = None) -> Schedule:
    """One more schedule. shown: the digest of the preview, for who was shown one. Admins only.

    Raises Invalid without a reason, Conflict when its short name is taken or another plan was shown.
    """
    require(actor, Role.ADMIN, [], f"add the schedule {slug}")
    reason = short_reason(reason)
    if shown is not None and shown != digest_of(NOTHING, plan):
        raise Conflict("This is not what the preview showed; look at it below, then save it.")
    with transaction.atomic():
        named = {"name": plan.name, "time_zone": plan.time_zone}
        made, is_new = Schedule.objects.get_or_create(slug=slug, defaults=named)
        if not is_new:
            raise Conflict(f"There is a schedule {slug} already: change that one, or choose another name.")
        write(made, plan)
        transaction.on_commit(lambda: ring("news", "incidents"))
        record_change(actor.who, "oncall.schedule_added", made, difference(NOTHING, plan), reason)
    return made


def write(schedule: Schedule, plan: Plan) -> None:
    """Replace name, zone and layers, in the caller's transaction."""
    Schedule.objects.filter(pk=schedule.pk).update(name=plan.name, time_zone=plan.time_zone)
    Layer.objects.filter(schedule=schedule).delete()
    Layer.objects.bulk_create(
        Layer(
            schedule=schedule, position=position, name=rule.name, people=list(rule.people), unit=rule.unit,
            every=rule.every, starts_on=rule.starts_on, handover=rule.handover, ends_on=rule.ends_on,
            days=sorted(rule.days), from_time=rule.from_time, until_time=rule.until_time,
        )
        for position, rule in enumerate(plan.layers, 1)
    )  # fmt: skip


def difference(before: Plan, after: Plan) -> dict[str, list[Any]]:
    """What changes, by key: before and after."""
    pairs: Sequence[tuple[str, Any, Any]] = [
        ("name", before.name, after.name),
        ("time_zone", before.time_zone, after.time_zone),
        ("layers", [as_words(one) for one in before.layers], [as_words(one) for one in after.layers]),
    ]
    return {name: [had, wanted] for name, had, wanted in pairs if had != wanted}


def record_change(who: Who, action: str, schedule: Schedule, changes: Mapping[str, Any], reason: str) -> None:
    """Its audit entry."""
    record(who, action, f"schedule {schedule.slug}", reason=reason, data={"changes": changes})
