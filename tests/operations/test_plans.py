"""A plan is pure data: equal inputs give an equal digest, any difference another."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.operations.plans import Plan, Retry, StepSpec, digest_of
from tests.operations.recipes import plan_of

specs = st.builds(
    StepSpec,
    key=st.text(min_size=1, max_size=8),
    title=st.text(max_size=8),
    function=st.just("sample.bring"),
    arguments=st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), st.text(max_size=4), st.none())),
    timeout=st.floats(1, 100),
)


@given(st.lists(specs, max_size=5, unique_by=lambda spec: spec.key))
def test_the_digest_survives_the_way_through_the_database(steps: list[StepSpec]) -> None:
    plan = Plan("p", tuple(steps))
    assert digest_of(plan.as_json()) == plan.digest == Plan("p", tuple(steps)).digest


@given(specs, st.integers(1, 9))
def test_any_difference_is_another_digest(spec: StepSpec, more: int) -> None:
    one = Plan("p", (spec,))
    assert replace(one, steps=(replace(spec, timeout=spec.timeout + more),)).digest != one.digest
    assert replace(one, steps=(replace(spec, safe_point=not spec.safe_point),)).digest != one.digest


def test_recovery_steps_are_part_of_what_is_signed() -> None:
    assert plan_of("a").digest != plan_of("a", recovery=True).digest


def test_a_key_stands_only_once() -> None:
    with pytest.raises(ValueError, match="unique"):
        Plan("p", (plan_of("a").steps[0], plan_of("a").steps[0]))


def test_a_recovery_step_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no such recovery step: b"):
        Plan("p", (replace(plan_of("a").steps[0], on_failure=("b",)),))


def test_back_off_doubles_up_to_a_minute() -> None:
    retry = Retry(attempts=9, wait=2)
    assert [retry.delay(n) for n in (1, 2, 3, 9)] == [2, 4, 8, 60]
