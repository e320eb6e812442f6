"""Retention: what is kept and why; nothing that is held, needed or the last good one ever goes."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.retention import Item, Rules, decide

NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
ZONE = ZoneInfo("UTC")
NOTHING = Rules(days=0)
HISTORIES = 100_000


def daily(count: int, **values: object) -> list[Item]:
    """One a day at 02:00, the newest first; the key is its age in days."""
    return [Item(age, NOW.replace(hour=2) - timedelta(days=age), **values) for age in range(count)]  # type: ignore[arg-type]


def kept(items: list[Item], rules: Rules, zone: ZoneInfo = ZONE) -> set[int]:
    return {key for key, why in decide(items, rules, NOW, zone).items() if why}


def test_the_guide_keeps_thirty_days() -> None:
    assert kept(daily(60), Rules()) == set(range(30))


def test_each_is_told_why() -> None:
    items = [Item(1, NOW - timedelta(days=1)), Item(2, NOW - timedelta(days=50), hold="the audit of 2026")]
    assert decide(items, Rules(last=1), NOW, ZONE) == {
        1: ["younger than 30 days", "one of the last 1", "the newest, and none is proven yet"],
        2: ["held: the audit of 2026"],
    }


def test_tiers_keep_the_newest_of_each_period() -> None:
    rules = Rules(days=0, daily=3, weekly=2, monthly=2, yearly=1)
    # 24 Nov 2026 is a Tuesday: the week before ends on Sunday the 22nd, the month before on 31 October.
    assert kept(daily(400), rules) == {0, 1, 2, 24}


def test_days_begin_where_the_policy_lives() -> None:
    items = [Item(1, datetime(2026, 11, 24, 1, tzinfo=UTC)), Item(2, datetime(2026, 11, 24, 6, tzinfo=UTC))]
    rules = Rules(days=0, daily=2)
    assert kept(items, rules) == {2}
    assert kept(items, rules, ZoneInfo("America/New_York")) == {1, 2}


def test_a_period_without_a_backup_does_not_use_up_the_count() -> None:
    items = [Item(1, NOW), Item(2, NOW - timedelta(days=100))]
    assert kept(items, Rules(days=0, daily=2)) == {1, 2}


def test_the_last_proven_one_stays_though_all_are_old() -> None:
    items = [Item(1, NOW - timedelta(days=90)), Item(2, NOW - timedelta(days=91), proven=True)]
    assert decide(items, Rules(), NOW, ZONE) == {1: [], 2: ["the last one proven by a restore"]}


def test_a_chain_stays_whole() -> None:
    base = Item(1, NOW - timedelta(days=40))
    middle = Item(2, NOW - timedelta(days=35), needs=frozenset({1}))
    tip = Item(3, NOW - timedelta(days=1), needs=frozenset({2}))
    other = Item(4, NOW - timedelta(days=36), needs=frozenset({1}))
    assert kept([base, middle, tip, other], Rules()) == {1, 2, 3}


def test_a_clock_that_was_ahead_deletes_nothing_new() -> None:
    assert kept([Item(1, NOW + timedelta(days=400)), Item(2, NOW - timedelta(days=3))], Rules()) == {1, 2}


items_of_any_kind = st.lists(
    st.builds(
        Item,
        st.integers(0, 30),
        st.integers(0, 4000).map(lambda hours: NOW - timedelta(hours=hours)),
        st.booleans(),
        st.sampled_from(["", "held"]),
        st.frozensets(st.integers(0, 30), max_size=2),
    ),
    max_size=30,
    unique_by=lambda item: item.key,
)
rules_of_any_kind = st.builds(Rules, *[st.integers(0, 8)] * 6)


def assert_nothing_needed_goes(items: list[Item], rules: Rules) -> None:
    why = decide(items, rules, NOW, ZONE)
    stays = {key for key, reasons in why.items() if reasons}
    assert why.keys() == {item.key for item in items}
    assert stays or not items
    for item in items:
        if item.hold or item.at > NOW - timedelta(days=rules.days):
            assert item.key in stays
        if item.key in stays:
            assert item.needs & why.keys() <= stays
    proven = [item for item in items if item.proven]
    if proven:
        assert max(proven, key=lambda item: (item.at, item.key)).key in stays
    assert decide([item for item in items if item.key in stays], rules, NOW, ZONE).keys() == stays


@settings(max_examples=300)
@given(items_of_any_kind, rules_of_any_kind)
def test_nothing_needed_ever_goes(items: list[Item], rules: Rules) -> None:
    assert_nothing_needed_goes(items, rules)


@settings(max_examples=100)
@given(items_of_any_kind, rules_of_any_kind)
def test_a_second_run_deletes_nothing_more(items: list[Item], rules: Rules) -> None:
    first = {key for key, why in decide(items, rules, NOW, ZONE).items() if why}
    rest = [item for item in items if item.key in first]
    assert {key for key, why in decide(rest, rules, NOW, ZONE).items() if why} == first


@pytest.mark.slow
def test_a_hundred_thousand_histories() -> None:
    chance = random.Random(214)
    for _ in range(HISTORIES):
        count = chance.randint(1, 6)
        items = [
            Item(
                key,
                NOW - timedelta(hours=chance.randint(0, 2000)),
                chance.random() < 0.3,
                "held" if chance.random() < 0.1 else "",
                frozenset({chance.randrange(count)}) if chance.random() < 0.5 else frozenset(),
            )
            for key in range(count)
        ]
        assert_nothing_needed_goes(items, Rules(*(chance.randint(0, 4) for _ in range(6))))
