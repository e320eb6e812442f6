"""Each instance is asked when it is due, by one clock only, and what it says is kept for a day."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.functions import Now

from controlplane.clock.registry import duties
from environments import probes
from environments.models import HealthSample, Placement, ProbeSchedule
from tests.environments.conftest import MakeFleet
from tests.environments.fleet import Fleet, Worker


@pytest.fixture
def production(fleet: MakeFleet) -> Fleet:
    """Two instances on 1.5.0, due to be probed."""
    made = fleet(2)
    made.deploy("1.5.0")
    Placement.objects.update(version="1.5.0")
    ProbeSchedule.objects.create(placement=made.placement)
    return made


def due() -> None:
    ProbeSchedule.objects.update(due_at=Now() - timedelta(seconds=1))


@pytest.mark.django_db
def test_what_is_due_is_asked_and_next_in_thirty_seconds(production: Fleet) -> None:
    due()
    assert probes.probe_due() == 2
    samples = list(HealthSample.objects.order_by("instance"))
    assert [(one.instance, one.healthy, one.status, one.version, one.in_rotation) for one in samples] == [
        ("production-1", True, 200, "1.5.0", True),
        ("production-2", True, 200, "1.5.0", True),
    ]
    assert samples[0].at == samples[1].at
    assert samples[0].words.startswith("/health answered 200 in ")
    assert probes.probe_due() == 0
    assert ProbeSchedule.objects.filter(due_at__gt=Now() + timedelta(seconds=25)).exists()


@pytest.mark.django_db
def test_a_bad_one_and_a_dead_one_are_told_apart(fleet: MakeFleet) -> None:
    production = fleet(2, broken_versions={"1.5.0": 503})
    for step in production.rollout("1.5.0").steps:
        if step.key in ("production-1/out", "production-1/start"):
            Worker().do(step)
    Placement.objects.update(version="1.5.0")
    ProbeSchedule.objects.create(placement=production.placement)
    due()
    probes.probe_due()
    bad, dead = HealthSample.objects.order_by("instance")
    assert (bad.healthy, bad.status, bad.in_rotation, bad.version) == (False, 503, False, "1.5.0")
    assert (dead.healthy, dead.status, dead.latency_ms, dead.words) == (
        False,
        None,
        None,
        "/health: connection refused",
    )


@pytest.mark.django_db(transaction=True)
def test_two_clocks_never_ask_the_same_twice(production: Fleet) -> None:
    due()

    def clock(_: int) -> int:
        try:
            return probes.probe_due()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        asked = sorted(pool.map(clock, range(4)))
    assert asked == [0, 0, 0, 2]
    assert HealthSample.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_what_another_clock_has_in_hand_is_passed_over_without_waiting(production: Fleet) -> None:
    due()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            other.set_autocommit(False)
            cursor.execute("SELECT id FROM environments_probeschedule FOR UPDATE")
            assert probes.probe_due() == 0
        other.rollback()
    finally:
        other.close()
    assert probes.probe_due() == 2


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_it_asks(production: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = []
    real = probes._questions

    def watched(placements: Any) -> list[probes.Question]:
        questions = list(real(placements))
        inside.append(connection.in_atomic_block)
        return questions

    monkeypatch.setattr(probes, "_questions", watched)
    due()
    assert probes.probe_due() == 2
    assert inside == [False]


@pytest.mark.django_db
def test_where_nothing_was_deployed_nobody_is_asked(production: Fleet) -> None:
    Placement.objects.update(version="")
    due()
    assert probes.probe_due() == 0


@pytest.mark.django_db
def test_a_service_without_instances_of_its_own_is_asked_at_its_environments_url(production: Fleet) -> None:
    address = production.placement.instances[0]["address"]
    Placement.objects.update(instances=[])
    type(production.placement.environment).objects.update(url=address + "/")
    due()
    assert probes.probe_due() == 1
    assert HealthSample.objects.get().instance == "pitchey-backend"


@pytest.mark.django_db
def test_a_metadata_address_is_not_asked(production: Fleet) -> None:
    Placement.objects.update(instances=[{"name": "production-1", "address": "http://169.254.169.254"}])
    due()
    probes.probe_due()
    assert "metadata address" in HealthSample.objects.get().words


@pytest.mark.django_db
def test_samples_are_forgotten_after_a_day(production: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "BATCH", 2)
    values: dict[str, Any] = {"placement": production.placement, "instance": "production-1", "healthy": True}
    for hours in (23, 25, 26, 27):
        HealthSample.objects.create(**values, at=Now() - timedelta(hours=hours))
    assert probes.forget_old() == 3
    assert HealthSample.objects.count() == 1


def test_the_clock_knows_them() -> None:
    assert {"probe health", "forget old health"} <= {duty.name for duty in duties()}
