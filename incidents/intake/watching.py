"""What others recorded and people have to know of, as alerts: failed operations, backups at risk, instances down.

The clock looks every other second. Each alert is said once however many clocks look, and it is over when its cause is
gone: the same operation succeeded, the backup's alert was resolved, the instance answers.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.urls import reverse

from backups.models import BackupAlert
from backups.services import BACKUP, PROOF
from controlplane.clock.database import database_time
from controlplane.operations.models import Operation, OperationLock
from controlplane.operations.states import State
from deployments.policies import guarded_slugs
from environments.models import Environment, Placement
from incidents.intake.own import OwnAlert, firing_of, say_news
from incidents.models import Alert

OPERATION_FAILED, BACKUP_AT_RISK, INSTANCE_DOWN = "OperationFailed", "BackupAtRisk", "InstanceDown"

# A failure from before this is found by nobody who was not there; after a day it is history.
FAILED_LATELY = timedelta(hours=1)
FAILED_UNTIL = timedelta(hours=24)
# A backup that fails has an alert of its own, with more to say.
TOLD_BY_BACKUPS = (BACKUP, PROOF)
LOST_DATA = (BackupAlert.Kind.FAILED, BackupAlert.Kind.WAL_GAP, BackupAlert.Kind.UNPROVEN)

PROBES_TO_BE_DOWN = 2
LOOK_BACK = timedelta(seconds=180)
# While an operation changes the environment, instances come and go: that is watched by the operation itself.
DOWN_DURING_OPERATION = timedelta(seconds=120)

SAMPLES = """
    SELECT placement.id, sample.instance, sample.healthy, sample.at, sample.words
    FROM environments_placement AS placement CROSS JOIN LATERAL (
        SELECT instance, healthy, at, words FROM environments_healthsample
        WHERE placement_id = placement.id AND at > %s
    ) AS sample
    WHERE placement.version <> '' ORDER BY placement.id, sample.instance, sample.at DESC
"""


def watch() -> int:
    """Look at everything; returns how many alerts changed."""
    return watch_operations() + watch_backups() + watch_instances()


# --- operations ---------------------------------------------------------------------------------------


def watch_operations() -> int:
    """The last operation of its kind on the same environments failed (and was put back, if it could be)."""
    firing = firing_of("operation:")
    now = database_time()
    rows = Operation.objects.filter(state__in=[State.SUCCEEDED, State.FAILED], finished_at__gt=now - FAILED_LATELY)
    last: dict[str, Operation] = {}
    for one in rows.exclude(kind__in=TOLD_BY_BACKUPS).only(*_SHOWN).order_by("finished_at"):
        last[_mark_of(one)] = one
    slugs = set(Environment.objects.values_list("slug", flat=True))
    guarded = guarded_slugs()
    found = [_failed(mark, one, slugs, guarded) for mark, one in last.items() if one.state == State.FAILED]
    earlier = [_still_failed(alert, now) for mark, alert in firing.items() if mark not in last]
    found += [alert for alert in earlier if alert is not None]
    return say_news(found, firing)


_SHOWN = ("pk", "kind", "scopes", "state", "title", "outcome", "finished_at")


def _mark_of(operation: Operation) -> str:
    subject = ",".join([operation.kind, *sorted(operation.scopes)])
    return f"operation:{hashlib.sha256(subject.encode()).hexdigest()[:32]}"


def _failed(mark: str, one: Operation, slugs: set[str], guarded: set[str]) -> OwnAlert:
    here = one.scopes[0] if one.scopes[0] in slugs else ""
    assert one.finished_at is not None
    return OwnAlert(
        name=OPERATION_FAILED,
        severity="critical" if here in guarded else "warning",
        summary=f"{one.title}: {one.outcome}" if one.outcome else one.title,
        firing=True,
        started_at=one.finished_at,
        environment=here,
        labels={"operation": one.kind, "scopes": ",".join(one.scopes)},
        annotations={"operation": str(one.pk), "outcome": one.outcome},
        url=settings.SITE_URL + one.get_absolute_url(),
        mark=mark,
    )


def _still_failed(alert: Alert, now: datetime) -> OwnAlert | None:
    """An alert of before the last hour, unless the same has succeeded since, or it is history."""
    number = alert.annotations.get("operation", "")
    since = Operation.objects.filter(kind=alert.labels.get("operation", ""), state=State.SUCCEEDED,
                                     scopes=alert.labels.get("scopes", "").split(","))  # fmt: skip
    if now - alert.started_at > FAILED_UNTIL or since.filter(pk__gt=int(number) if number.isdecimal() else 0).exists():
        return None
    return _as_it_is(alert)


def _as_it_is(alert: Alert) -> OwnAlert:
    """What still holds of a known alert."""
    return OwnAlert(alert.name, alert.severity, alert.summary, firing=True, started_at=alert.started_at,
                    mark=alert.fingerprint)  # fmt: skip


# --- backups ------------------------------------------------------------------------------------------


def watch_backups() -> int:
    """Every open alert of backups is one of ours."""
    rows = BackupAlert.objects.filter(resolved_at=None).select_related("policy__environment")
    found = [
        OwnAlert(
            name=BACKUP_AT_RISK,
            severity="critical" if one.kind in LOST_DATA else "warning",
            summary=f"{one.policy}: {one.get_kind_display()}; {one.words}",
            firing=True,
            started_at=one.raised_at,
            environment=one.policy.environment.slug,
            labels={"policy": one.policy.slug, "problem": one.kind},
            annotations={"operation": str(one.operation_id)} if one.operation_id else {},
            url=settings.SITE_URL + one.policy.get_absolute_url(),
            mark=f"backup:{one.policy_id}:{one.kind}",
        )
        for one in rows
    ]
    return say_news(found, firing_of("backup:"))


# --- instances ----------------------------------------------------------------------------------------


@dataclass
class _Instance:
    """The last probes of one instance: whether it was well, when, and what was heard; the newest first."""

    probes: list[tuple[bool, datetime, str]] = field(default_factory=list)

    @property
    def failing(self) -> list[tuple[bool, datetime, str]]:
        """The probes since it was last well."""
        well = next((number for number, one in enumerate(self.probes) if one[0]), len(self.probes))
        return self.probes[:well]


def watch_instances() -> int:
    """An instance that did not answer well twice in a row, where something is meant to run."""
    firing = firing_of("instance:")
    now = database_time()
    seen = _seen(now)
    changing = set(OperationLock.objects.values_list("name", flat=True))
    found = []
    for placement in Placement.objects.exclude(version="").select_related("environment", "service"):
        names = [one["name"] for one in placement.instances]
        heard = {name: seen.get((placement.pk, name), _Instance()) for name in names}
        well = sum(bool(one.probes) and one.probes[0][0] for one in heard.values())
        for name, one in heard.items():
            known = firing.get(_mark_of_instance(placement, name))
            least = DOWN_DURING_OPERATION if placement.environment.slug in changing else timedelta(0)
            if known is not None and not one.probes:
                found.append(_as_it_is(known))  # nobody asks any more: that is no answer
            elif one.failing and (known or _is_down(one, now, least)):
                found.append(_down(placement, name, one, f"{well} of {len(names)}", known))
    return say_news(found, firing)


def _is_down(one: _Instance, now: datetime, least: timedelta) -> bool:
    return len(one.failing) >= PROBES_TO_BE_DOWN and now - one.failing[-1][1] >= least


def _seen(now: datetime) -> dict[tuple[int, str], _Instance]:
    seen: dict[tuple[int, str], _Instance] = {}
    for placement, instance, *probe in _samples(now):
        seen.setdefault((placement, instance), _Instance()).probes.append((probe[0], probe[1], probe[2]))
    return seen


def _samples(now: datetime) -> Iterator[Any]:
    with connection.cursor() as cursor:
        cursor.execute(SAMPLES, [now - LOOK_BACK])
        yield from cursor.fetchall()


def _mark_of_instance(placement: Placement, name: str) -> str:
    short = name if len(name) <= 30 and name.isascii() else hashlib.sha256(name.encode()).hexdigest()[:30]
    return f"instance:{placement.pk}:{short}"


def _down(placement: Placement, name: str, one: _Instance, well: str, known: Alert | None) -> OwnAlert:
    return OwnAlert(
        name=INSTANCE_DOWN,
        severity="critical",
        summary=f"{name} does not answer well: {one.failing[0][2]}; {well} of {placement.service.slug} do",
        firing=True,
        started_at=known.started_at if known else one.failing[-1][1],
        environment=placement.environment.slug,
        labels={"service": placement.service.slug, "instance": name},
        annotations={"well": well},
        url=settings.SITE_URL + reverse("environment", args=[placement.environment.slug]),
        mark=_mark_of_instance(placement, name),
    )
