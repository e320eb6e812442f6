"""What a condition says of what was measured: missing data are never fine, and a bound that is passed is found."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from incidents.rules.conditions import parse
from incidents.rules.evaluation import Finding, Reading, bound_of, find
from incidents.rules.units import UNITS, Dimension, shown

KNOWN = {
    "error_rate": Reading(0.075),
    "p95_response_time": Reading(512.0),
    "db_connections": Reading(0.0),
    "db_connections_max": Reading(100.0),
    "instances": Reading(3.0),
    "instances_healthy": Reading(None, "no probe within 100 s"),
}


def found(text: str) -> Finding:
    return find(parse(text), KNOWN)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("error_rate > 0.05", True),
        ("error_rate > 7.5%", False),
        ("error_rate >= 7.5%", True),
        ("p95_response_time > 500ms", True),
        ("p95_response_time > 0.6s", False),
        ("p95_response_time > 500", True),
        ("db_connections == 0", True),
        ("db_connections != 0", False),
        ("0.05 < error_rate", True),
        ("not error_rate > 5%", False),
        ("error_rate > 50% or db_connections == 0", True),
        ("error_rate > 50% and db_connections == 0", False),
        ("error_rate > 5% and db_connections == 0", True),
        ("instances - 1 == 2", True),
        ("-instances < -2", True),
        ("error_rate * 2 > 10% + 4%", True),
        ("db_connections / db_connections_max < 80%", True),
    ],
)
def test_what_holds(text: str, holds: bool) -> None:
    assert found(text).holds is holds


class TestMissing:
    def test_one_that_is_missing(self) -> None:
        assert found("instances_healthy < 2") == Finding(None, None, "instances_healthy: no probe within 100 s")

    def test_a_metric_that_was_never_asked_for(self) -> None:
        assert found("memory_used > 1GB").holds is None

    @pytest.mark.parametrize("text", ["not instances_healthy < 2", "instances_healthy == instances_healthy"])
    def test_no_way_around_it(self, text: str) -> None:
        assert found(text).holds is None

    def test_what_is_known_may_be_enough_to_fire_and_never_to_be_fine(self) -> None:
        assert found("instances_healthy < 2 or error_rate > 5%").holds is True
        assert found("instances_healthy < 2 or error_rate > 50%").holds is None
        assert found("instances_healthy < 2 and error_rate > 50%").holds is None

    def test_a_share_of_nothing(self) -> None:
        finding = found("db_connections_max / db_connections > 80%")
        assert (finding.holds, finding.value) == (None, None)
        assert finding.words == "db_connections_max / db_connections > 80%: divides by zero"


class TestWords:
    def test_the_value_beside_its_bound(self) -> None:
        finding = found("error_rate > 0.05")
        assert (finding.value, finding.words) == (0.075, "error_rate is 7.5\u00a0%, the bound is 5\u00a0%")

    def test_of_several_the_one_that_holds(self) -> None:
        assert found("error_rate > 50% or p95_response_time > 500ms").value == 512.0

    def test_the_bound_is_on_either_side(self) -> None:
        assert bound_of(parse("0.05 < error_rate")) == bound_of(parse("error_rate > 5%")) == "5\u00a0%"
        assert bound_of(parse("instances_healthy < instances")) == "instances"
        assert bound_of(parse("p95_response_time > 1500")) == "1.5\u00a0s"


@pytest.mark.parametrize(
    ("value", "dimension", "words"),
    [
        (0.125, Dimension.SHARE, "12.5 %"), (1.0, Dimension.SHARE, "100 %"), (0.00012, Dimension.SHARE, "0.012 %"),
        (840.4, Dimension.TIME, "840 ms"), (1234.0, Dimension.TIME, "1.23 s"), (90_000.0, Dimension.TIME, "1.5 m"),
        (1.5e9, Dimension.SIZE, "1.5 GB"), (12.0, Dimension.SIZE, "12 B"), (12_345.0, Dimension.COUNT, "12345"),
        (2.5, None, "2.5"), (12_345.6, None, "12346"), (-0.5, Dimension.SHARE, "-50 %"),
    ],
)  # fmt: skip
def test_values_for_people(value: float, dimension: Dimension | None, words: str) -> None:
    assert shown(value, dimension) == words.replace(" ", "\u00a0")


@given(st.floats(allow_nan=False), st.sampled_from([*Dimension, None]))
@example(1.7e308, Dimension.SHARE)
def test_every_value_has_words(value: float, dimension: Dimension | None) -> None:
    assert shown(value, dimension)


@given(st.floats(0, 1e6), st.sampled_from([unit for unit, (what, _) in UNITS.items() if what is Dimension.TIME]))
def test_units_are_turned_into_one(value: float, unit: str) -> None:
    condition = parse(f"p95_response_time >= {value!r}{unit}")
    exactly = value * UNITS[unit][1]
    assert find(condition, {"p95_response_time": Reading(exactly)}).holds is True
    assert find(condition, {"p95_response_time": Reading(exactly - max(1e-3, exactly * 1e-6))}).holds is False
