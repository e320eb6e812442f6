"""Asking every instance how it is, as the guide's load balancer does: each 30 s, from the outside.

1. Claim what is due in one short statement: its next time is set at once, so two clocks never ask the same twice.
2. Ask, all instances at the same time, with no transaction open.
3. Keep what was heard, all rows of one round with the same time, and ring. Trouble is looked at again in 5 s.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from controlplane.live.ring import ring
from controlplane.operations.events import storable
from environments.addresses import Answer, NoAnswer, get
from environments.models import HealthSample, Placement, ProbeSchedule

AT_ONCE = 20  # placements claimed in one call
THREADS = 16
KEEP = timedelta(hours=24)
BATCH = 5000
# Where something did not answer well, it is asked again soon: one bad answer is chance, two are trouble.
AGAIN = timedelta(seconds=5)

CLAIM = """
    UPDATE environments_probeschedule SET due_at = now() + make_interval(secs => interval_seconds)
    WHERE id IN (
        SELECT probe.id FROM environments_probeschedule AS probe
        JOIN environments_placement AS placement ON placement.id = probe.placement_id
        WHERE probe.due_at <= now() AND placement.version <> ''
        ORDER BY probe.due_at LIMIT %s FOR UPDATE OF probe SKIP LOCKED
    )
    RETURNING placement_id
"""


@dataclass(frozen=True)
class Question:
    """One instance to ask."""

    placement: int
    instance: str
    address: str
    health_path: str


def probe_due() -> int:
    """Probe the placements whose time has come; returns how many instances were asked.

    Where nothing was ever deployed nobody is expected to answer, so nobody is asked.
    """
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [AT_ONCE])
        claimed = [row[0] for row in cursor.fetchall()]
    questions = list(_questions(claimed))
    if not questions:
        return 0
    with ThreadPoolExecutor(min(THREADS, len(questions)), thread_name_prefix="probe") as pool:
        heard = list(pool.map(probe, questions))
    with transaction.atomic():
        HealthSample.objects.bulk_create(heard)
        trouble = {sample.placement_id for sample in heard if not sample.healthy}
        ProbeSchedule.objects.filter(placement__in=trouble, due_at__gt=Now() + AGAIN).update(due_at=Now() + AGAIN)
        transaction.on_commit(lambda: ring("news", "health"))
    return len(questions)


def _questions(placements: Iterable[int]) -> Iterable[Question]:
    """Every instance with an address; for a placement without any, the environment's URL."""
    for one in Placement.objects.filter(pk__in=placements).select_related("environment", "service"):
        addresses = {instance["name"]: instance.get("address", "") for instance in one.instances}
        if not any(addresses.values()) and one.environment.url:
            addresses = {next(iter(addresses), one.service.slug): one.environment.url}
        for name, address in addresses.items():
            if address:
                yield Question(one.pk, name, address.rstrip("/"), one.health_path)


def probe(question: Question) -> HealthSample:
    """Ask one instance for its health, its release and whether it is in rotation; the row is not saved."""
    sample = HealthSample(placement_id=question.placement, instance=question.instance, healthy=False)
    try:
        answer = get(f"{question.address}{question.health_path}")
    except NoAnswer as error:
        sample.words = storable(f"{question.health_path}: {error}")[:300]
        return sample
    sample.status, sample.latency_ms, sample.healthy = answer.status, answer.latency_ms, answer.status == 200
    sample.words = f"{question.health_path} answered {answer.status} in {answer.latency_ms:.0f} ms"[:300]
    version = _ask(f"{question.address}/version")
    if version is not None and version.status == 200:
        sample.version = storable(str(version.json().get("version", "")))[:100]
    ready = _ask(f"{question.address}/ready")
    if ready is not None and ready.status in (200, 503):
        sample.in_rotation = ready.status == 200
    return sample


def _ask(url: str) -> Answer | None:
    """What need not be there."""
    try:
        return get(url)
    except NoAnswer:
        return None


def forget_old() -> int:
    """Delete samples older than a day, some thousand at a time; returns how many."""
    forgotten = 0
    while True:
        old = HealthSample.objects.filter(at__lt=Now() - KEEP).values("pk")[:BATCH]
        deleted, _ = HealthSample.objects.filter(pk__in=old).delete()
        forgotten += deleted
        if deleted < BATCH:
            return forgotten
