"""Background operations leave workers free: only so many of them run at once."""

from dataclasses import replace
from typing import Any

import pytest

from controlplane.operations import claims, engine, registry
from controlplane.operations.states import State
from tests.operations import recipes
from tests.operations.conftest import Ask

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def in_the_background(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Sample operations are such, and one at a time is enough."""
    settings.BACKGROUND_OPERATIONS = 1
    monkeypatch.setitem(registry._kinds, "sample", replace(recipes.SAMPLE, background=True))


@pytest.mark.usefixtures("in_the_background")
def test_one_waits_while_another_runs(ask: Ask) -> None:
    first, second = ask(scopes=("a",)), ask(scopes=("b",))
    assert claims.claim(first.pk, "w1") is not None
    assert claims.claim(second.pk, "w2") is None
    second.refresh_from_db()
    assert second.state == State.QUEUED and "others shall find a free worker" in second.outcome


@pytest.mark.usefixtures("in_the_background")
def test_it_starts_when_the_other_has_ended(ask: Ask) -> None:
    first, second = ask(scopes=("a",)), ask(scopes=("b",))
    assert claims.claim(first.pk, "w1") is not None
    assert not engine.run(second.pk, "w2")
    type(first).objects.filter(pk=first.pk).update(lease_until="2000-01-01T00:00:00Z")
    assert engine.run(first.pk, "w1")
    assert engine.run(second.pk, "w2")
    second.refresh_from_db()
    assert second.state == State.SUCCEEDED


def test_others_are_not_held_up(ask: Ask, settings: Any) -> None:
    settings.BACKGROUND_OPERATIONS = 0
    assert engine.run(ask().pk, "w1")
