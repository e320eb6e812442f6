"""Seeded faults of the engine: at least 95 % are caught within 30 s, which is three looks.

Each fault is a state that the engine leaves behind if it has a bug, or a part of the engine that does nothing. They
are set up on a healthy incident; then time passes, the rest of the engine goes on, and the auditor looks.
"""

import pytest

from tests.incidents.auditor_world import LOOK_SECONDS, World, build, pass_time
from tests.incidents.mutations import FAULTS, Fault

pytestmark = pytest.mark.django_db

LOOKS = 3


@pytest.fixture
def world() -> World:
    """With nothing open."""
    return build()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_is_caught_within_30_seconds(world: World, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    incident = fault.before(world)
    assert world.look() == {}, "the auditor complains before there is a fault"
    fault.seed(world, incident, monkeypatch)
    for look in range(LOOKS):
        found = world.look()
        if any(key.startswith(f"{name}:") for key in found for name in fault.caught_by):
            return
        if look < LOOKS - 1:
            pass_time(LOOK_SECONDS)
            world.engine()
    pytest.fail(f"not caught; found {found}")


def test_there_are_faults_of_every_part() -> None:
    assert len(FAULTS) >= 30
    assert {fault.part for fault in FAULTS} == {
        "intake", "opening", "timer", "outbox", "sender", "receipts", "acknowledge", "timeline", "locks", "clock",
        "lessons",
    }  # fmt: skip
