"""Somebody changes a Deployment in the cluster: the board says so at the clock's next look, and both answers work."""

import pytest
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.environments.kubernetes.answering import adopt, asked, carried_out, set_image, the_clock_looks
from tests.environments.kubernetes.server import Fault
from tests.environments.kubernetes.town import NAME, Town, digest_of_release

pytestmark = pytest.mark.django_db(transaction=True)

ADOPT = f"/environments/production/adopt/{NAME}"
REDEPLOY = f"/environments/production/deploy?service={NAME}&amp;version=1.4.0"


def seen(client: Client, person: Person, path: str = "/") -> str:
    client.force_login(person)
    return client.get(path).content.decode()


def page(client: Client, person: Person) -> str:
    return seen(client, person, "/environments/production")


def test_as_it_was_deployed_nothing_differs(client: Client, deployed: Town, dana: Person) -> None:
    assert "differs" not in seen(client, dana)
    assert "as it was deployed" in page(client, dana)


def test_another_image_is_on_the_board_and_both_answers_are_offered(
    client: Client, deployed: Town, alice: Person, dana: Person, charlie: Person
) -> None:
    set_image(deployed, "1.5.0")
    the_clock_looks()
    board = seen(client, dana)
    assert "differs" in board and f"/environments/production#drift-{deployed.placement.pk}" in board
    shown = page(client, alice)
    assert "Differs from what was deployed" in shown
    assert ADOPT in shown and REDEPLOY in shown
    watched = page(client, dana)
    assert "Differs from what was deployed" in watched
    assert ADOPT not in watched and REDEPLOY not in watched
    assert "differs" not in seen(client, charlie)
    assert client.get("/environments/production").status_code == 404


def test_what_runs_is_adopted(client: Client, deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    the_clock_looks()
    assert "Adopt 1.5.0" in seen(client, alice, ADOPT)
    changes = len(deployed.api.changes())
    adopt(deployed, alice)
    deployed.placement.refresh_from_db()
    assert (deployed.placement.version, len(deployed.api.changes())) == ("1.5.0", changes)
    the_clock_looks()
    assert "differs" not in seen(client, alice)


def test_what_was_deployed_is_deployed_again(client: Client, deployed: Town, alice: Person) -> None:
    set_image(deployed, "1.5.0")
    the_clock_looks()
    assert "apply Deployment" in seen(client, alice, REDEPLOY.replace("&amp;", "&"))
    operation = asked(deployed, alice)
    shown = page_of(client, alice, operation)
    assert "containers[name=&quot;pitchey-backend&quot;].image of Deployment" in shown
    assert "managed by kubectl-set" in shown and "taken back" in shown
    assert carried_out(operation).state == State.SUCCEEDED, operation.outcome
    assert deployed.pods() == [digest_of_release("1.4.0")] * 3
    the_clock_looks()
    assert "differs" not in seen(client, alice)
    assert "Differed lately" in page(client, alice)


def page_of(client: Client, person: Person, operation: Operation) -> str:
    return seen(client, person, operation.get_absolute_url())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"replicas": 5}, "5 pods"),
        ({"template": {"spec": {"containers": [{"name": NAME, "env": [{"name": "ADDED", "value": "hidden-one"}]}]}}},
         "variables that somebody changed"),
        ({"template": {"spec": {"terminationGracePeriodSeconds": 1}}}, "terminationGracePeriodSeconds"),
    ],
)  # fmt: skip
def test_anything_else_is_only_redeployed(
    client: Client, deployed: Town, alice: Person, spec: dict[str, object], words: str
) -> None:
    deployed.cluster.update("Deployment", NAME, {"spec": spec}, "kubectl-edit")
    deployed.cluster.settle()
    the_clock_looks()
    assert "differs" in seen(client, alice)
    shown = page(client, alice)
    assert words in shown and REDEPLOY in shown and ADOPT not in shown
    assert "hidden-one" not in shown


def test_a_cluster_that_does_not_answer_is_not_known(client: Client, deployed: Town, dana: Person) -> None:
    deployed.api.faults.append(Fault("GET", "Deployment", 500, times=1, message="etcd is away"))
    the_clock_looks()
    assert "drift not known" in seen(client, dana)
    assert "etcd is away" in page(client, dana)
