"""Silences and maintenance windows: what matches is kept and opens nothing, for a time, with somebody's reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Least, Now

from controlplane.accounts.access import Actor
from controlplane.audit.record import record
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.transitions import said
from environments.models import Environment
from incidents.intake.grouping import silences
from incidents.intake.matchers import problem_with, spell
from incidents.models import Alert, Silence

LONGEST = timedelta(days=31)
SHOWN_AT_MOST = 100
MARKED_AT_ONCE = 2000


@dataclass(frozen=True)
class Overview:
    """Silences by where they stand in time."""

    active: list[Silence]
    coming: list[Silence]
    over: list[Silence]


def overview(rows: QuerySet[Silence]) -> Overview:
    """Those that hold now, those to come, and the last that are over."""
    now = database_time()
    rows = rows.select_related("environment")
    return Overview(
        list(rows.filter(starts_at__lte=now, ends_at__gt=now).order_by("ends_at")[:SHOWN_AT_MOST]),
        list(rows.filter(starts_at__gt=now).order_by("starts_at")[:SHOWN_AT_MOST]),
        list(rows.filter(ends_at__lte=now).order_by("-ends_at")[:20]),
    )


def add(
    actor: Actor,
    *,
    matchers: Sequence[dict[str, str]],
    environment: Environment | None,
    ends_at: datetime,
    reason: str,
    starts_at: datetime | None = None,
    kind: Silence.Kind = Silence.Kind.SILENCE,
) -> Silence:
    """Silence what matches, from now or from a time to come. Raises Invalid.

    The caller has checked that the person is an operator of the environment, or everywhere without one.
    """
    reason = said(reason, "Say why: others will wonder why nobody was told.")
    now = database_time()
    start = max(starts_at or now, now)
    _check(kind, matchers, environment, start, ends_at)
    with transaction.atomic():
        silence = Silence.objects.create(
            kind=kind, matchers=list(matchers), environment=environment, starts_at=start, ends_at=ends_at,
            reason=reason, author=actor.person, author_name=actor.who.name,
        )  # fmt: skip
        if start <= now:
            _have_looked_at(silence)
        _news()
        record(actor.who, "silence.added", _target(silence), scopes=_scopes(silence), reason=reason,
               data={"matchers": spell(matchers), "from": start, "until": ends_at})  # fmt: skip
    return silence


def _check(
    kind: Silence.Kind, matchers: Sequence[dict[str, str]], environment: Environment | None, start: datetime,
    end: datetime,
) -> None:  # fmt: skip
    if words := problem_with(matchers):
        raise Invalid(words)
    if kind == Silence.Kind.MAINTENANCE and environment is None:
        raise Invalid("A maintenance window is of one environment: say which.")
    if kind == Silence.Kind.SILENCE and not matchers:
        raise Invalid('Say which alerts, as in alertname="HighErrorRate"; a maintenance window is for all of them.')
    if end <= start:
        raise Invalid("It would end before it begins: give a later end.")
    if end - start > LONGEST:
        raise Invalid(f"At most {LONGEST.days} days; what is to be quiet for longer needs another rule.")


def end(actor: Actor, silence: Silence) -> None:
    """End it before its time; what still fires is taken up at once. Raises Conflict when it is over already."""
    with transaction.atomic():
        rows = Silence.objects.filter(pk=silence.pk, ends_at__gt=Now())
        # One that has not begun yet ends as it would have begun.
        if not rows.update(ends_at=Now(), starts_at=Least(F("starts_at"), Now()), ended_by_name=actor.who.name):
            raise Conflict("It is over already.")
        _take_up(Alert.objects.filter(silence=silence, state=Alert.State.FIRING))
        _news()
        record(actor.who, "silence.ended", _target(silence), scopes=_scopes(silence))


def _have_looked_at(silence: Silence) -> None:
    """What fires now and matches is marked with it, by the clock, which then also knows when to look again."""
    rows = Alert.objects.filter(state=Alert.State.FIRING).select_related("environment", "source")
    if silence.environment is not None:
        rows = rows.filter(environment=silence.environment)
    columns = ("pk", "name", "severity", "labels", "environment__slug", "source__slug")
    found = []
    for pk, name, severity, labels, slug, source in rows.values_list(*columns).iterator(MARKED_AT_ONCE):
        added = {"alertname": name, "severity": severity, "source": source, "environment": slug or ""}
        if silences(silence, {**labels, **added}):
            found.append(pk)
    _take_up(Alert.objects.filter(pk__in=found))


def _take_up(alerts: QuerySet[Alert]) -> None:
    """Have the clock look at them now. They are locked in the order in which the handlers of bodies lock them."""
    rows = alerts.order_by("source_id", "fingerprint").select_for_update()
    numbers = list(rows.values_list("pk", flat=True))
    Alert.objects.filter(pk__in=numbers).update(due_at=Now())


def _target(silence: Silence) -> str:
    return f"{silence.get_kind_display()} {silence.pk}"


def _scopes(silence: Silence) -> list[str]:
    return [silence.environment.slug] if silence.environment else []


def _news() -> None:
    transaction.on_commit(lambda: ring("news", "alerts"))
