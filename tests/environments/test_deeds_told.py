"""Drivers tell each of their effects once, also when a worker dies between the effect and its telling."""

import pytest

from controlplane.operations.models import Deed, Operation
from controlplane.operations.states import State
from tests.aws.company import SERVICE, Company, run, run_until_the_end
from tests.environments.conftest import MakeFleet
from tests.environments.ecs.test_nothing_twice import with_the_answer_in_hand
from tests.environments.fleet import Worker
from tests.operations import dying

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


def told(operation: Operation) -> list[str]:
    return [effect.what for effect in operation.effects.all()]


def test_ecs_tells_what_the_plan_explains(company: Company) -> None:
    operation = run(company.ask())
    assert operation.state == State.SUCCEEDED
    deed = Deed.objects.get(operation=operation)
    assert (told(operation), deed.differences) == (["registered", "updated"], [])
    assert operation.effects.get(what="updated").subject == SERVICE


@pytest.mark.parametrize("method", ["register", "update"])
def test_ecs_tells_it_once_when_a_worker_dies_with_the_answer(
    company: Company, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    operation = company.ask()
    with_the_answer_in_hand(monkeypatch, method)
    assert run_until_the_end(operation).state == State.SUCCEEDED
    assert told(operation) == ["registered", "updated"]
    assert Deed.objects.get(operation=operation).is_explained


def test_ecs_tells_it_once_when_a_worker_dies_while_it_tells(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = company.ask()
    dying.die_before_it_is_noted_as_told(monkeypatch)
    assert dying.run_until_the_end(operation) == 1
    assert told(operation) == ["registered", "updated"]


def test_local_tells_each_change_of_each_instance(fleet: MakeFleet) -> None:
    production = fleet(1)
    production.deploy("1.4.0")
    worker = Worker()
    production.deploy("1.5.0", worker)
    assert [(what, subject) for what, subject, _ in worker.effects] == [
        ("deregistered", "production-1"),
        ("stopped", "production-1"),
        ("started", "production-1"),
        ("registered", "production-1"),
    ]
    assert [facts["version"] for _, _, facts in worker.effects if facts] == ["1.4.0", "1.5.0"]
