from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import boundaries, transitions
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from tests.operations import recipes

Ask = Callable[..., Operation]


@pytest.fixture(autouse=True)
def world() -> Iterator[recipes.World]:
    recipes.register()
    yield recipes.reset()
    boundaries.listeners.clear()


@pytest.fixture
def ask(alice: Person, world: recipes.World) -> Ask:
    """Alice asks for a sample operation; without approvals it is queued at once."""

    def ask(plan: Plan | None = None, *, approvals: int = 0, scopes: tuple[str, ...] = ("production",), **values: Any):  # type: ignore[no-untyped-def]
        world.plan = plan or recipes.plan_of("one")
        values = {"reason": "because", "gates": world.gates, **values}
        return transitions.request(
            Actor(alice), kind="sample", title="Sample", scopes=scopes, plan=world.plan,
            approvals_required=approvals, **values,
        )  # fmt: skip

    return ask
