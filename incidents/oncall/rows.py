"""Schedules as they are stored, read into the rotas that `rotation` understands."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db.models import Q

from controlplane.accounts.models import Person
from incidents.models import Absence, Layer, Override, Schedule
from incidents.oncall.rotation import Away, LayerRule, Rota, Stand

# A local date is at most this far from the same date in UTC.
ZONES_APART = timedelta(days=2)


def rule_of(layer: Layer) -> LayerRule:
    """A stored layer."""
    return LayerRule(
        name=layer.name, people=tuple(layer.people), unit=layer.unit, every=layer.every, starts_on=layer.starts_on,
        handover=layer.handover, ends_on=layer.ends_on, days=frozenset(layer.days), from_time=layer.from_time,
        until_time=layer.until_time,
    )  # fmt: skip


def stand_of(override: Override) -> Stand:
    """A stored override."""
    return Stand(
        override.person, override.starts_at, override.ends_at, override.pk,
        is_swap=override.kind == Override.Kind.SWAP, words=override.reason,
    )  # fmt: skip


def rota_of(slug: str, since: datetime, until: datetime) -> Rota | None:
    """One schedule, with what matters in a span; None when there is no such schedule. Four or five queries."""
    layers = list(Layer.objects.filter(schedule__slug=slug).select_related("schedule").order_by("position"))
    schedule = layers[0].schedule if layers else Schedule.objects.filter(slug=slug).first()
    return rotas([schedule], since, until, layers)[schedule.slug] if schedule else None


def rotas(
    schedules: Sequence[Schedule], since: datetime, until: datetime, layers: Iterable[Layer] | None = None
) -> dict[str, Rota]:
    """Rotas by slug, in a fixed number of queries however many schedules there are. layers: if they are known."""
    if layers is None:
        layers = Layer.objects.filter(schedule__in=schedules).order_by("position")
    layers = list(layers)
    overrides = list(
        Override.objects.filter(
            schedule__in=schedules, cancelled_at=None, awaiting="", starts_at__lt=until, ends_at__gt=since
        ).order_by("pk")
    )
    names = {name for layer in layers for name in layer.people} | {one.person for one in overrides}
    away, gone = absences_of(names, since, until), gone_of(names)
    return {
        schedule.slug: Rota(
            schedule.time_zone,
            tuple(rule_of(layer) for layer in layers if layer.schedule_id == schedule.pk),
            tuple(stand_of(one) for one in overrides if one.schedule_id == schedule.pk),
            away,
            gone,
        )
        for schedule in schedules
    }


def with_layers(schedule: Schedule, rota: Rota, since: datetime, until: datetime) -> Rota:
    """A rota that is only proposed, with what stands above the stored layers and who is away or gone."""
    stored = [schedule] if schedule.pk else []
    kept = rotas(stored, since, until, ()).get(schedule.slug, rota)
    names = {name for layer in rota.layers for name in layer.people}
    away = {*kept.absences, *absences_of(names, since, until)}
    return replace(rota, stands=kept.stands, absences=tuple(away), gone=kept.gone | gone_of(names))


def absences_of(names: Iterable[str], since: datetime, until: datetime) -> tuple[Away, ...]:
    """The absences of these people that touch a span."""
    rows = Absence.objects.filter(
        person__username__in=names,
        starts_on__lte=(until + ZONES_APART).date(),
        ends_on__gte=(since - ZONES_APART).date(),
    )
    return tuple(Away(*row) for row in rows.values_list("person__username", "starts_on", "ends_on"))


def gone_of(names: Iterable[str]) -> frozenset[str]:
    """Those of these names who are nobody (any more): their turns go to the next, so that somebody is paged."""
    wanted = set(names)
    return frozenset(wanted - set(Person.objects.filter(usable(wanted)).values_list("username", flat=True)))


def usable(names: Iterable[str]) -> Q:
    """Active people of these names."""
    return Q(username__in=list(names), is_active=True)
