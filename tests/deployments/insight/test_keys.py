"""DORA's four keys, by their definitions, on histories small enough to count by hand; the query: test_numbers.py."""

from datetime import UTC, datetime, timedelta

import pytest

from deployments.insight.trouble import Trouble
from tests.deployments.insight.by_hand import Change, judge, keys_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def change(number: int, ended: float, **values: object) -> Change:
    given = {
        "operation": number, "release": number, "is_rollback": False, "succeeded": True, "began": at(ended - 5),
        "ended": at(ended), "release_known": at(ended - 60), "put_back": False,
    }  # fmt: skip
    return Change(**{**given, **values})  # type: ignore[arg-type]


def test_what_goes_well_counts_and_leads_from_the_release_to_its_arrival() -> None:
    keys = keys_of(judge([change(1, 0), change(2, 100, release_known=at(80))], []))
    assert (keys.frequency, keys.ran, keys.wrong, keys.failure_percent) == (2, 2, 0, 0)
    assert keys.lead == (3600 + 1200) / 2
    assert keys.restore is None


def test_a_release_arrives_once() -> None:
    keys = keys_of(judge([change(1, 0), change(2, 500, release=1)], []))
    assert (keys.frequency, keys.lead) == (2, 3600)


def test_one_that_failed_and_put_itself_back_is_restored_at_its_end() -> None:
    keys = keys_of(judge([change(1, 0, succeeded=False, put_back=True), change(2, 60)], []))
    assert (keys.frequency, keys.wrong, keys.restore) == (1, 1, 300)


def test_one_that_failed_half_way_is_restored_by_the_next_that_succeeds() -> None:
    keys = keys_of(judge([change(1, 0, succeeded=False), change(2, 20, succeeded=False), change(3, 60)], []))
    assert (keys.wrong, keys.ran) == (2, 3)
    assert keys.restore == (65 * 60 + 45 * 60) / 2


def test_a_rollback_is_no_deployment_and_blames_the_one_before_it() -> None:
    judged = judge([change(1, 0), change(2, 30), change(3, 50, is_rollback=True, release=1)], [])
    assert [one.went_wrong for one in judged] == ["", "rolled back"]
    keys = keys_of(judged)
    assert (keys.frequency, keys.wrong, keys.restore) == (2, 1, 20 * 60)


@pytest.mark.parametrize(("began", "wrong"), [(10, True), (60, True), (61, False), (-1, False)])
def test_an_incident_blames_the_last_change_within_an_hour(began: float, wrong: bool) -> None:
    judged = judge([change(1, 0)], [Trouble(at(began), at(began + 30))])
    assert bool(judged[0].went_wrong) is wrong
    assert judged[0].restored == (1800 if wrong else None)


def test_of_two_changes_before_an_incident_the_later_is_blamed() -> None:
    judged = judge([change(1, 0), change(2, 20)], [Trouble(at(30), None)])
    assert [one.went_wrong for one in judged] == ["", "an incident began"]
    assert judged[1].restored is None  # it goes on


def test_nothing_has_no_rate_and_no_median() -> None:
    keys = keys_of([])
    assert (keys.failure_percent, keys.lead, keys.restore) == (None, None, None)
