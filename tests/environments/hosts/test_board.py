"""Somebody stops or replaces a container: the board says so at the clock's next look, and to deploy again mends it."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.clock.registry import duties
from controlplane.operations.states import State
from environments.drift import EVERY
from environments.models import DriftWatch
from tests.environments.hosts.street import Make
from tests.environments.hosts.street import street as street  # noqa: PLC0414 (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)


def the_clock_looks() -> None:
    """The time until the next look, which is less than a minute, has gone by."""
    assert EVERY < 60
    (duty,) = (one for one in duties() if one.name == "look for drift")
    DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1))
    assert duty.function() == 1


def seen(client: Client, person: Person, path: str = "/") -> str:
    client.force_login(person)
    return client.get(path).content.decode()


def test_a_container_that_was_stopped_is_on_the_board_until_it_is_deployed_again(
    client: Client, street: Make, alice: Person, charlie: Person
) -> None:
    production = street(1)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    the_clock_looks()
    assert "differs" not in seen(client, alice)
    container = production.park.container(1)
    assert container is not None
    with production.park.engine() as engine:
        engine.stop(container.id, 5)
    the_clock_looks()
    assert "production-1: 1.5.0 ended" in seen(client, alice)
    page = seen(client, alice, "/environments/production")
    assert "Differs from what was deployed" in page and "version=1.5.0" in page
    assert "differs" not in seen(client, charlie)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    the_clock_looks()
    assert "differs" not in seen(client, alice)
