"""Stop the world, with real workers: after the click no step begins, and what runs is held at its next safe point."""

from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.embedded.processes import wait_until
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State, StepState
from tests.operations import held

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]
PATIENCE = 90.0
NAMES = ["a", "b", "c"]


def states(operations: list[Operation]) -> list[str]:
    found = dict(Operation.objects.filter(pk__in=[one.pk for one in operations]).values_list("pk", "state"))
    return [found[one.pk] for one in operations]


@pytest.mark.usefixtures("data_dir")
def test_after_the_click_no_step_begins_until_everything_may_go_on(alice: Person, ada: Person, client: Client) -> None:
    held.register()
    client.force_login(ada)
    log = Path(settings.DATA_DIR) / "worker.log"
    with held.workers(3, log):
        running = [held.ask(Actor(alice), scope, held.plan_of(NAMES)) for scope in ("one", "two", "three")]
        in_a = sorted((one.pk, "a") for one in running)
        assert wait_until(lambda: held.begun() == in_a, PATIENCE), log.read_text()

        assert client.post(reverse("world-stop"), {"reason": "bad feeling"}).status_code == 302
        late = held.ask(Actor(alice), "four", held.plan_of(NAMES))
        held.go_on(*NAMES)  # whatever began now would run to its end

        those = Operation.objects.filter(pk__in=[one.pk for one in running])
        assert wait_until(lambda: those.exclude(paused_at=None).count() == 3, PATIENCE), log.read_text()
        words = "waits: Ada has stopped everything: bad feeling"
        assert wait_until(lambda: Operation.objects.filter(pk=late.pk, outcome=words).exists(), PATIENCE)
        assert held.begun() == in_a
        assert set(those.values_list("state", "worker", "lease_until")) == {(State.RUNNING, "", None)}
        assert {words.partition(":")[0] for words in those.values_list("outcome", flat=True)} == {
            "stands still before b"
        }
        untouched = Step.objects.filter(operation__in=[*running, late]).exclude(operation__in=running, key="a")
        assert set(untouched.values_list("state", "attempt")) == {(StepState.PENDING, 0)}

        assert client.post(reverse("world-release"), {"reason": "looked at it"}).status_code == 302
        everything = [*running, late]
        assert wait_until(lambda: states(everything) == [State.SUCCEEDED] * 4, PATIENCE), log.read_text()
        assert held.begun() == sorted((one.pk, name) for one in everything for name in NAMES)
    connection.close()
