"""What the probes heard, as pages show it: how each instance is now, and how the answers went lately."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from controlplane.web.tones import Tone
from environments.models import HealthSample, Placement

# A sample older than this says nothing about now: the guide's balancer asks every 30 s, so three were missed.
FRESH = timedelta(seconds=100)
LATELY = timedelta(minutes=30)
SPARKS = 30


@dataclass(frozen=True)
class InstanceHealth:
    """The last word of one instance."""

    instance: str
    tone: Tone
    word: str
    version: str = ""
    rotation: str = ""
    latency_ms: float | None = None
    words: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Bucket:
    """The probes of some minutes. latency_ms: mean of those that were answered well, None without any."""

    at: datetime
    latency_ms: float | None
    probes: int
    failed: int


@dataclass(frozen=True)
class Health:
    """One service in one environment."""

    instances: list[InstanceHealth]
    buckets: list[Bucket]

    @property
    def healthy(self) -> int:
        """How many instances are well."""
        return sum(instance.tone is Tone.OK for instance in self.instances)

    @property
    def known(self) -> bool:
        """At least one answered lately, well or not."""
        return any(instance.tone is not Tone.IDLE for instance in self.instances)

    @property
    def tone(self) -> Tone:
        """Green only when every instance is well."""
        if not self.known:
            return Tone.IDLE
        return Tone.OK if self.healthy == len(self.instances) else Tone.BAD

    @property
    def word(self) -> str:
        """ "2/3 healthy", or that nobody has asked lately."""
        return f"{self.healthy}/{len(self.instances)} healthy" if self.known else "not probed lately"

    @property
    def mixture(self) -> str:
        """Which releases answer on how many instances, while more than one does; else empty."""
        versions = [instance.version for instance in self.instances if instance.version]
        if len(set(versions)) < 2:
            return ""
        return ", ".join(f"{version} on {versions.count(version)}" for version in sorted(set(versions)))

    @property
    def spark(self) -> list[float | None]:
        """Latencies, oldest first; None where nobody answered well. Minutes without any probe are left out."""
        return [bucket.latency_ms for bucket in self.buckets if bucket.probes]

    @property
    def label(self) -> str:
        """The sparkline in words."""
        failed, probes = sum(b.failed for b in self.buckets), sum(b.probes for b in self.buckets)
        return f"{probes - failed} of {probes} probes good in the last {LATELY.seconds // 60} min"


def health_of(placements: Sequence[Placement]) -> dict[int, Health]:
    """By placement: two queries for all of them."""
    until = timezone.now()
    buckets = buckets_of(placements, until - LATELY, until, SPARKS)
    latest = _latest(placements)
    found = {}
    for placement in placements:
        names = [one["name"] for one in placement.instances]
        heard = latest.get(placement.pk, {})
        instances = [_instance(name, heard.get(name)) for name in names or sorted(heard)]
        found[placement.pk] = Health(instances, buckets[placement.pk])
    return found


def _latest(placements: Sequence[Placement]) -> dict[int, dict[str, HealthSample]]:
    fresh = HealthSample.objects.filter(placement__in=placements, at__gt=Now() - FRESH)
    latest: dict[int, dict[str, HealthSample]] = {}
    for sample in fresh.order_by("placement_id", "instance", "-at").distinct("placement_id", "instance"):
        latest.setdefault(sample.placement_id, {})[sample.instance] = sample
    return latest


def _instance(name: str, sample: HealthSample | None) -> InstanceHealth:
    if sample is None:
        return InstanceHealth(name, Tone.IDLE, "not probed lately")
    rotation = {True: "in", False: "out", None: "–"}[sample.in_rotation]
    tone, word = (Tone.OK, "healthy") if sample.healthy else (Tone.BAD, "not healthy")
    return InstanceHealth(name, tone, word, sample.version, rotation, sample.latency_ms, sample.words, sample.at)


def buckets_of(
    placements: Sequence[Placement], since: datetime, until: datetime, count: int
) -> dict[int, list[Bucket]]:
    """By placement: its probes between two times in `count` equal parts, in one query."""
    width = (until - since) / count
    empty = [Bucket(since + number * width, None, 0, 0) for number in range(count)]
    buckets = {placement.pk: list(empty) for placement in placements}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT placement_id, floor(extract(epoch FROM at - %s) / %s)::int AS part, count(*),"
            " count(*) FILTER (WHERE NOT healthy), avg(latency_ms) FILTER (WHERE healthy)"
            " FROM environments_healthsample WHERE placement_id = ANY(%s) AND at >= %s AND at < %s GROUP BY 1, 2",
            [since, width.total_seconds(), list(buckets), since, until],
        )
        for placement_id, part, probes, failed, latency in cursor.fetchall():
            at = since + part * width
            buckets[placement_id][part] = Bucket(at, None if latency is None else float(latency), probes, failed)
    return buckets
