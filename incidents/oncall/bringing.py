"""Bringing a calendar in: its events become overrides, all of them or none, and the past stays as it was."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from incidents.models import Override, Schedule
from incidents.oncall.importing import Contents, Wanted, read
from incidents.oncall.services import end_now, record_change, short_reason

REPEAT = re.compile(r"#[0-9]{8}T[0-9]{6}$")


@dataclass(frozen=True)
class Imported:
    """What an import did, in numbers."""

    added: int
    changed: int
    cancelled: int
    unchanged: int

    def __str__(self) -> str:
        return f"{self.added} added, {self.changed} changed, {self.cancelled} cancelled, {self.unchanged} as they were"


def import_calendar(actor: Actor, schedule: Schedule, body: bytes, reason: str) -> Imported:
    """Make overrides of a calendar's events, all or nothing; the same again changes nothing. Operators only.

    What somebody took back here stays so, whatever the file says. Raises Invalid.
    """
    require(actor, Role.OPERATOR, [], f"import a calendar into {schedule.slug}")
    reason = short_reason(reason)
    found = read(body, schedule.time_zone, database_time())
    with transaction.atomic():
        Schedule.objects.select_for_update().get(pk=schedule.pk)
        now = database_time()
        there = _there(schedule, found, now)
        bringing = _Bringing(schedule, reason, actor.who.name, now)
        counts = Counter(bringing.bring(one, there.pop(one.uid, None)) for one in found.wanted)
        for row in there.values():  # its event is in the file, and says nothing of this time any more
            counts["cancelled"] += row.cancelled_at is None and end_now(row, now)
        done = Imported(counts["added"], counts["changed"], counts["cancelled"], counts["unchanged"])
        if done.added or done.changed or done.cancelled:
            record_change(actor, "oncall.imported", schedule, reason, {"what": str(done)})
    return done


def _there(schedule: Schedule, found: Contents, now: datetime) -> dict[str, Override]:
    """What earlier imports made of these events, by uid: the last of each."""
    rows = Override.objects.filter(schedule=schedule).exclude(uid="").order_by("pk")
    known = rows.filter(Q(uid__in=[one.uid for one in found.wanted]) | Q(ends_at__gt=now))
    return {row.uid: row for row in known if {row.uid, REPEAT.sub("", row.uid)} & found.events}


@dataclass(frozen=True)
class _Bringing:
    """One import: where to, why, by whom, when."""

    schedule: Schedule
    reason: str
    author: str
    now: datetime

    def bring(self, one: Wanted, there: Override | None) -> str:
        """Make it so; what was done, in a word."""
        if there is None:
            return self._add(one) if not one.is_cancelled else "unchanged"
        if there.cancelled_at is not None or there.ends_at <= self.now:
            return "unchanged"
        if one.is_cancelled:
            end_now(there, self.now)
            return "cancelled"
        runs, will_run = there.starts_at <= self.now, one.starts_at <= self.now
        same_start = there.starts_at == one.starts_at or (runs and will_run)
        if (there.person, there.ends_at) == (one.person, one.ends_at) and same_start:
            return "unchanged"
        if runs and not (will_run and there.person == one.person):
            end_now(there, self.now)
            self._add(one)
        else:
            starts_at = there.starts_at if runs else max(one.starts_at, self.now)
            Override.objects.filter(pk=there.pk).update(person=one.person, starts_at=starts_at, ends_at=one.ends_at)
        return "changed"

    def _add(self, one: Wanted) -> str:
        Override.objects.create(
            schedule=self.schedule, person=one.person, starts_at=max(one.starts_at, self.now), ends_at=one.ends_at,
            uid=one.uid, reason=self.reason, author_name=self.author,
        )  # fmt: skip
        return "added"
