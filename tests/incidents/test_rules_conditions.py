"""Conditions of alert rules: read as the guide writes them, or refused at the character that is wrong."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from incidents.rules.conditions import DEEPEST, LONGEST, ConditionError, parse, problem_with
from incidents.rules.metrics import METRICS
from incidents.rules.tree import (
    Arithmetic,
    Comparison,
    Condition,
    Joined,
    Measured,
    Minus,
    Not,
    Quantity,
    metrics_of,
    printed,
)
from incidents.rules.units import UNITS, Dimension
from incidents.rules.wording import in_words

SIGNS = (">", ">=", "<", "<=", "==", "!=")


def error_of(text: str) -> ConditionError | None:
    try:
        parse(text)
    except ConditionError as error:
        return error
    return None


def refused(text: str) -> ConditionError:
    with pytest.raises(ConditionError) as caught:
        parse(text)
    return caught.value


class TestReading:
    def test_the_three_of_the_guide(self) -> None:
        assert parse("error_rate > 0.05") == Comparison(">", Measured("error_rate"), Quantity(0.05))
        assert parse("p95_response_time > 500ms") == Comparison(">", Measured("p95_response_time"), Quantity(500, "ms"))
        assert parse("db_connections == 0") == Comparison("==", Measured("db_connections"), Quantity(0))

    def test_and_binds_more_than_or_and_not_most(self) -> None:
        assert parse("not error_rate > 1% and instances < 2 or db_connections == 0") == Joined(
            "or",
            Joined(
                "and",
                Not(Comparison(">", Measured("error_rate"), Quantity(1, "%"))),
                Comparison("<", Measured("instances"), Quantity(2)),
            ),
            Comparison("==", Measured("db_connections"), Quantity(0)),
        )

    def test_arithmetic_from_left_to_right_and_products_first(self) -> None:
        tree = parse("instances - instances_healthy - 1 > 2 * 3")
        assert isinstance(tree, Comparison)
        assert printed(tree) == "instances - instances_healthy - 1 > 2 * 3"
        assert isinstance(tree.left, Arithmetic) and tree.left.right == Quantity(1)
        assert parse("instances + 2 * 3 > 1") == parse("instances + (2 * 3) > 1")
        assert parse("instances - (2 - 3) > 1") != parse("instances - 2 - 3 > 1")

    @pytest.mark.parametrize("text", ["(error_rate) > 1", "((error_rate > 1))", "ERROR_RATE".lower() + ">1"])
    def test_parentheses_and_spaces_are_free(self, text: str) -> None:
        assert printed(parse(text)) == "error_rate > 1"

    def test_words_may_be_large(self) -> None:
        assert printed(parse("error_rate > 1 AND NOT instances > 2")) == "error_rate > 1 and not instances > 2"

    @pytest.mark.parametrize("unit", [unit for unit, (what, _) in UNITS.items() if what is Dimension.SIZE])
    def test_sizes(self, unit: str) -> None:
        assert printed(parse(f"memory_used > 1.5 {unit}")) == f"memory_used > 1.5{unit}"

    def test_the_metrics_of_it_each_once(self) -> None:
        assert metrics_of(parse("db_connections / db_connections_max > 80% or db_connections == 0")) == [
            "db_connections", "db_connections_max",
        ]  # fmt: skip

    def test_in_words(self) -> None:
        assert in_words(parse("error_rate > 0.05")) == "the share of requests that failed is above 5\u00a0%"
        assert in_words(parse("p95_response_time >= 1500ms and not db_connections == 0")) == (
            "the time within which 95 of 100 requests are answered is at least 1.5\u00a0s,"
            " and it is not so that the number of connections to the database is exactly 0"
        )

    def test_many_parentheses_are_no_trouble(self) -> None:
        assert printed(parse("(" * 200 + "error_rate > 1" + ")" * 200)) == "error_rate > 1"


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "empty"),
        ("   ", 0, "empty"),
        ("eror_rate > 0.05", 0, "There is no metric “eror_rate”. Did you mean error_rate?"),
        ("error_rate > 5 and latency > 1", 19, "There is no metric “latency”. There are: error_rate,"),
        ("p95_response_time > 500mz", 23, "There is no unit “mz”. Did you mean"),
        ("p95_response_time > 5 MS", 22, "Did you mean ms?"),
        ("error_rate > 5 pct", 15, "There is no unit “pct”. There are: ms,"),
        ("error_rate >", 12, "A metric or a number is missing at the end."),
        ("error_rate > ", 12, "missing at the end"),
        ("> 5", 0, "A metric or a number is missing before “>”."),
        ("error_rate > or", 13, "missing before “or”"),
        ("error_rate > (", 14, "missing at the end"),
        ("error_rate", 10, "A comparison is missing at the end"),
        ("error_rate and instances > 1", 11, "A comparison is missing before “and”"),
        ("error_rate 0.05", 11, "An operator is missing before “0.05”"),
        ("5ms error_rate", 4, "An operator is missing before “error_rate”"),
        ("error_rate > 1 (instances > 1)", 15, "An operator is missing"),
        ("0 < error_rate < 5", 15, "A second comparison needs “and” or “or”"),
        ("(error_rate > 1", 15, "A “)” is missing"),
        ("error_rate > 1)", 14, "This “)” closes nothing."),
        ("error_rate = 5", 11, "write == for “equal”"),
        ("error_rate > 1 && instances > 1", 15, "write “and”"),
        ("error_rate > 1 || instances > 1", 15, "write “or”"),
        ("!error_rate > 1", 0, "write “not”"),
        ("error_rate > 0,05", 14, "with a point"),
        ("error_rate ≥ 1", 11, "write >="),
        ("error_rate > \x00", 13, "U+0000"),
        ("error_rate > 1e999", 13, "too large"),
        ("1 > 0", 2, "names no metric"),
        ("error_rate > 500ms", 11, "error_rate is a share and 500ms is a time"),
        ("p95_response_time > 5%", 18, "Write 500ms or 2s, say."),
        ("error_rate + p95_response_time > 1", 11, "A share and a time cannot be added."),
        ("p95_response_time * p95_response_time > 1", 18, "A time and a time cannot be multiplied."),
        ("1 / p95_response_time > 1", 2, "A number cannot be divided by a time."),
    ],
)
def test_errors_point_at_the_character(text: str, position: int, words: str) -> None:
    error = refused(text)
    assert (error.position, words in error.words) == (position, True), error.words
    assert error.caret.splitlines()[-1] == " " * position + "^"
    assert f"at character {position + 1}" in str(error)
    assert problem_with(text).splitlines()[2] == " " * position + "^"


def test_too_long_and_too_deep() -> None:
    assert refused("error_rate > 1" + " " * LONGEST).position == LONGEST
    assert "levels" in refused("not " * (DEEPEST + 2) + "error_rate > 1").words
    assert "levels" in refused("error_rate" + "+1" * (DEEPEST + 2) + " > 1").words


def test_nothing_is_wrong_with_a_right_one() -> None:
    assert problem_with("error_rate > 0.05") == ""


# --- Whatever it is -----------------------------------------------------------------------------------

numbers = st.one_of(
    st.builds(Quantity, st.floats(0, 1e12, allow_nan=False), st.sampled_from(["", *UNITS])),
    st.builds(Measured, st.sampled_from(sorted(METRICS))),
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.builds(Minus, inner), st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner))


compared = st.builds(
    Comparison, st.sampled_from(SIGNS), st.recursive(numbers, _larger, max_leaves=6), st.recursive(numbers, _larger)
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    compared,
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(Joined, st.sampled_from(("and", "or")), inner, inner)),
    max_leaves=6,
)


@given(conditions)
@example(Comparison(">", Minus(Minus(Quantity(0.0))), Measured("instances")))
def test_printing_and_reading_again_gives_the_same_tree(tree: Condition) -> None:
    text = printed(tree)
    error = error_of(text)
    if error is not None:
        # Its shape was understood; what it says is another matter.
        assert any(word in error.words for word in ("cannot be", "names no metric", "characters; at most"))
        return
    read = parse(text)
    assert read == tree
    assert printed(read) == text
    assert in_words(read)


WORDS = [*METRICS, *UNITS, *SIGNS, "and", "or", "not", "(", ")", "+", "-", "*", "/", "5", "0.05", "1e3", "=", "x", " "]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join)))
@example("٣ > 5")
@example("error_rate > ²")
@example("\ud800")
@example("error_rate > 5\u2028")
def test_garbage_raises_only_that_error(text: str) -> None:
    error = error_of(text)
    if error is None:
        assert parse(printed(parse(text))) == parse(text)
        return
    assert 0 <= error.position <= len(text) and error.words.endswith((".", "?"))
    assert error.caret.count("\n") == 1
    error.words.encode()
