"""How a rule turns from one look to the next: it fires when it held long enough, and missing data are never fine."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from incidents.models import RuleState
from incidents.rules.turns import PATIENCE, Standing, turn

State = RuleState.State
START = datetime(2026, 11, 28, 12, tzinfo=UTC)
FIVE = 300
NEW = Standing(State.MISSING, START)


def after(*looks: tuple[int, bool | None], for_seconds: int = FIVE, begin: Standing = NEW) -> Standing:
    """How it stands after looks at so many seconds from the start."""
    standing = begin
    for second, holds in looks:
        standing = turn(standing, holds, START + timedelta(seconds=second), for_seconds)
    return standing


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


def test_it_is_pending_until_it_held_for_long_enough() -> None:
    assert after((0, True), (290, True)) == Standing(State.PENDING, at(0), at(0))
    assert after((0, True), (299, True), (300, True)) == Standing(State.FIRING, at(300), at(0), at(300))


def test_one_look_that_is_fine_begins_anew() -> None:
    assert after((0, True), (200, False), (210, True), (400, True)).state == State.PENDING
    assert after((0, True), (200, False)) == Standing(State.FINE, at(200))
    assert after((0, True), (200, False), (250, False)).since == at(200)


def test_without_a_duration_it_fires_at_once() -> None:
    assert after((10, True), for_seconds=0) == Standing(State.FIRING, at(10), at(10), at(10))


def test_data_that_go_missing_end_no_alert() -> None:
    out = after((0, True), (300, True), (310, None))
    assert (out.state, out.since, out.told_since) == (State.MISSING, at(310), at(300))
    again = after((0, True), (300, True), (310, None), (5000, True))
    assert (again.state, again.since, again.told_since) == (State.FIRING, at(300), at(300))
    assert after((0, True), (300, True), (310, None), (320, False)) == Standing(State.FINE, at(320))


def test_a_short_gap_does_not_begin_anew_and_a_long_one_does() -> None:
    assert after((0, True), (100, None), (110, True), (300, True)).state == State.FIRING
    assert after((0, True), (10, None), (320, True)) == Standing(State.PENDING, at(320), at(320))


def test_missing_for_long_is_an_alert_of_its_own() -> None:
    assert after((0, None), (299, None)).nodata_since is None
    out = after((0, None), (300, None), (400, None))
    assert (out.state, out.since, out.nodata_since) == (State.MISSING, at(0), at(300))
    assert after((0, None), (300, None), (310, False)) == Standing(State.FINE, at(310))
    assert after((0, None), (300, None), (310, True)).nodata_since is None


def test_even_without_a_duration_one_late_answer_is_no_alert() -> None:
    almost = PATIENCE.seconds - 1
    assert after((0, None), (almost, None), for_seconds=0).nodata_since is None
    assert after((0, None), (almost + 1, None), for_seconds=0).nodata_since == at(PATIENCE.seconds)


looks = st.lists(st.tuples(st.integers(1, 400), st.sampled_from([True, False, None])), max_size=30)


@given(looks, st.sampled_from([0, 60, FIVE]))
def test_whatever_happens(gaps: list[tuple[int, bool | None]], for_seconds: int) -> None:
    """Missing is never fine; an alert begins only while it holds and ends only when it does not."""
    standing, second = NEW, 0
    for gap, holds in gaps:
        second += gap
        before, standing = standing, turn(standing, holds, at(second), for_seconds)
        assert (standing.state == State.MISSING) == (holds is None)
        assert (standing.state == State.FINE) == (holds is False)
        if before.told_since and not standing.told_since:
            assert holds is False
        if standing.told_since and not before.told_since:
            assert holds is True and standing.held_since is not None
            assert standing.told_since - standing.held_since >= timedelta(seconds=for_seconds)
        assert standing.nodata_since is None or holds is None
        assert standing.since <= at(second)
