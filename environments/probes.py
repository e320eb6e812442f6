"""Probing: is every instance well? Every 30 s, as the guide's load balancer asks.

Due placements are claimed with SKIP LOCKED, so any number of clocks share the work; the network is asked outside
of any transaction. What nobody has deployed to is not asked: a cold site is not an ill one.
"""

from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from controlplane.live.ring import ring
from environments.addresses import NoAnswer, get
from environments.models import HealthSample, Placement, ProbeSchedule

AT_ONCE = 10
KEPT = timedelta(hours=24)
BATCH = 10_000


def probe_due() -> int:
    """Probe what is due; returns how many placements."""
    _schedule_new_ones()
    placements = _claim()
    for placement in placements:
        HealthSample.objects.bulk_create(_samples(placement))
    if placements:
        ring("news", "health")
    return len(placements)


def prune() -> int:
    """Forget samples older than a day, a batch at a time; returns how many."""
    old = HealthSample.objects.filter(at__lt=Now() - KEPT).order_by("at").values("pk")[:BATCH]
    return HealthSample.objects.filter(pk__in=old).delete()[0]


def _schedule_new_ones() -> None:
    new = Placement.objects.filter(probe=None).exclude(version="")
    ProbeSchedule.objects.bulk_create([ProbeSchedule(placement=one) for one in new], ignore_conflicts=True)


def _claim() -> list[Placement]:
    with transaction.atomic():
        due = ProbeSchedule.objects.select_for_update(skip_locked=True, of=("self",)).filter(due_at__lte=Now())
        claimed = list(due.select_related("placement__environment", "placement__service").order_by("due_at")[:AT_ONCE])
        ProbeSchedule.objects.filter(pk__in=[one.pk for one in claimed]).update(
            due_at=Now() + F("interval_seconds") * timedelta(seconds=1)
        )
    return [one.placement for one in claimed]


def _samples(placement: Placement) -> Iterator[HealthSample]:
    whole = [{"name": placement.service.slug, "address": placement.environment.url}]
    for instance in placement.instances or whole:
        yield _sample(placement, instance["name"], instance["address"])


def _sample(placement: Placement, instance: str, address: str) -> HealthSample:
    sample = HealthSample(placement=placement, instance=instance, healthy=False)
    try:
        answer = get(address + placement.health_path)
        sample.status, sample.latency_ms = answer.status, answer.latency_ms
        sample.healthy = answer.status == 200
        sample.words = f"{placement.health_path} answered {answer.status}"
        sample.in_rotation = {200: True, 503: False}.get(get(f"{address}/ready").status)
        sample.version = str(get(f"{address}/version").json().get("version", ""))[:100]
    except NoAnswer as silence:
        sample.words = sample.words or str(silence)[:300]
    return sample
