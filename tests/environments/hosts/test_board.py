"""Somebody stops or replaces a container: the board says so at the clock's next look, and to deploy again mends it."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.clock.registry import duties
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.adoption import look_at
from environments.drift import EVERY
from environments.models import DriftWatch, Placement
from tests.environments.hosts.street import Make, Street
from tests.environments.hosts.street import street as street  # noqa: PLC0414 (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)

ADOPT = "/environments/production/adopt/pitchey-backend"
REDEPLOY = "/environments/production/deploy?service=pitchey-backend&amp;version=1.5.0"


def the_clock_looks() -> None:
    """The time until the next look, which is less than a minute, has gone by."""
    assert EVERY < 60
    (duty,) = (one for one in duties() if one.name == "look for drift")
    DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1))
    assert duty.function() == 1


def seen(client: Client, person: Person, path: str = "/") -> str:
    client.force_login(person)
    return client.get(path).content.decode()


def remove(production: Street, number: int) -> None:
    """Somebody does, on the host."""
    container = production.park.container(number)
    assert container is not None
    with production.park.engine() as engine:
        engine.remove(container.id)


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


def test_where_one_host_does_not_answer_the_others_are_told_and_of_it_that_it_is_not_known(
    client: Client, street: Make, alice: Person
) -> None:
    production = street(2)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    remove(production, 1)
    the_clock_looks()
    assert "production-1: nothing runs" in seen(client, alice)
    hosts = production.park.placement.environment.driver_settings["hosts"]
    away = {"engine": "unix:///tmp/nobody-there.sock", "instances": ["production-1"]}
    production.park.settings(hosts={**hosts, "server1": away})
    remove(production, 2)
    the_clock_looks()
    page = seen(client, alice, "/environments/production")
    assert "drift not known" in page and "production-1: server1: The engine&#x27;s socket" in page
    assert "production-2</th>" in page, "the other one is looked at all the same"
    assert "production-1</th>" in page, "nobody can say that it has ended"
    board = seen(client, alice)
    assert "production-1: nothing runs, and 1 more" in board and "drift not known" in board
    production.park.settings(hosts=hosts)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    the_clock_looks()
    assert "differs" not in seen(client, alice)
    assert "drift not known" not in seen(client, alice)


def test_a_container_that_is_gone_is_deployed_again_from_the_page_of_the_drift(
    client: Client, street: Make, alice: Person
) -> None:
    production = street(2)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    remove(production, 1)
    the_clock_looks()
    page = seen(client, alice, "/environments/production")
    assert REDEPLOY in page and ADOPT not in page, "nothing runs there that could be adopted"
    assert "run 1.5.0" in seen(client, alice, REDEPLOY.replace("&amp;", "&"))
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    the_clock_looks()
    assert "differs" not in seen(client, alice)


def test_a_container_that_was_replaced_is_removed_by_name_when_the_release_is_deployed_again(
    client: Client, street: Make, alice: Person
) -> None:
    production = street(2)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    stranger = production.park.somebody_starts("1.4.0")
    the_clock_looks()
    assert f"container {stranger[:12]} of" in seen(client, alice)
    page = seen(client, alice, "/environments/production")
    assert REDEPLOY in page and ADOPT in page
    assert f"remove the container {stranger[:12]} of" in seen(client, alice, REDEPLOY.replace("&amp;", "&"))
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    the_clock_looks()
    assert "differs" not in seen(client, alice)
    assert production.park.versions() == ["1.5.0", "1.5.0"]


def test_what_replaced_it_is_adopted_where_it_is_a_known_release_and_then_started_as_ours(
    client: Client, street: Make, alice: Person
) -> None:
    production = street(1)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    assert production.deploy("1.4.0").state == State.SUCCEEDED
    stranger = production.park.somebody_starts("1.5.0")
    the_clock_looks()
    assert "Adopt 1.5.0" in seen(client, alice, ADOPT)
    placement = Placement.objects.select_related("environment", "service").get()
    digest = look_at(placement).plan.digest
    said = {"reason": "the hotfix was right", "confirm": "production", "plan_digest": digest}
    assert client.post(ADOPT, said).status_code == 302
    assert production.run(Operation.objects.get(kind="adoption")).state == State.SUCCEEDED
    placement.refresh_from_db()
    assert (placement.version, placement.digest) == ("1.5.0", production.park.images.release("1.5.0").digest)
    assert production.containers() == [stranger], "nothing was changed on the host"
    the_clock_looks()
    page = seen(client, alice, "/environments/production")
    assert "with the configuration and settings of now" in page and ADOPT not in page
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    the_clock_looks()
    assert "differs" not in seen(client, alice)


def test_what_no_release_is_known_for_is_not_adopted_and_the_page_says_why(
    client: Client, street: Make, alice: Person
) -> None:
    production = street(1)
    assert production.deploy("1.5.0").state == State.SUCCEEDED
    production.park.somebody_starts("1.8.0")
    the_clock_looks()
    page = seen(client, alice, ADOPT)
    assert "No known release has the image that runs of" in page
    assert production.park.images.release("1.8.0").digest in page
    assert "deploy again what should run" in page
