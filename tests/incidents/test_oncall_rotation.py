"""Layers, windows, overrides and absences, by example; every zone and change of the clocks is in another file."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from incidents.oncall.rotation import Away, LayerRule, Rota, Stand, Why, shifts, stretches, who

BERLIN = "Europe/Berlin"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEKLY = LayerRule("engineers", ("alice", "bob"), "week", 1, date(2026, 1, 5), time(9))


def at(text: str, zone: str = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def told(rota: Rota, since: str, until: str) -> list[tuple[str, str]]:
    """(person, local beginning) of each shift."""
    tz = ZoneInfo(rota.time_zone)
    found = shifts(rota, at(since, rota.time_zone), at(until, rota.time_zone))
    return [(one.person, one.starts_at.astimezone(tz).strftime("%d %H:%M")) for one in found]


def test_people_take_turns_and_hand_over_at_nine() -> None:
    assert told(Rota(BERLIN, (WEEKLY,)), "2026-01-05T09:00", "2026-01-26T09:00") == [
        ("alice", "05 09:00"),
        ("bob", "12 09:00"),
        ("alice", "19 09:00"),
    ]


def test_the_hand_over_stays_at_nine_when_the_clocks_change() -> None:
    """29 March 2026: the week is an hour shorter, and the pager still changes hands at nine."""
    found = shifts(Rota(BERLIN, (WEEKLY,)), at("2026-03-23T09:00"), at("2026-04-06T09:00"))
    assert [one.ends_at - one.starts_at for one in found] == [7 * DAY - HOUR, 7 * DAY]
    assert found[1].starts_at == datetime(2026, 3, 30, 7, tzinfo=UTC)


def test_a_hand_over_that_the_clocks_skip_is_at_the_first_instant_after_it() -> None:
    layer = LayerRule("nights", ("alice", "bob"), "day", 1, date(2026, 3, 27), time(2, 30))
    found = shifts(Rota(BERLIN, (layer,)), at("2026-03-28T12:00"), at("2026-03-29T12:00"))
    assert found[1].starts_at == datetime(2026, 3, 29, 1, tzinfo=UTC)  # 03:00, as there was no 02:30


def test_a_hand_over_that_comes_twice_is_at_the_first_time() -> None:
    layer = LayerRule("nights", ("alice", "bob"), "day", 1, date(2026, 10, 23), time(2, 30))
    found = shifts(Rota(BERLIN, (layer,)), at("2026-10-24T12:00"), at("2026-10-25T12:00"))
    assert found[1].starts_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_turns_of_hours_are_counted_by_the_wall_clock() -> None:
    layer = LayerRule("halves", ("alice", "bob"), "hour", 12, date(2026, 3, 28), time(8))
    assert told(Rota(BERLIN, (layer,)), "2026-03-28T08:00", "2026-03-30T08:00") == [
        ("alice", "28 08:00"),
        ("bob", "28 20:00"),
        ("alice", "29 08:00"),
        ("bob", "29 20:00"),
    ]


def test_a_turn_that_began_in_the_first_of_two_hours_goes_on_in_the_second() -> None:
    """25 October 2026: the clocks go from 03:00 back to 02:00; at the second 02:15 the turn of 02:30 has begun."""
    layer = LayerRule("hours", ("alice", "bob", "carol"), "hour", 1, date(2026, 10, 25), time(0, 30))
    rota = Rota(BERLIN, (layer,))
    second = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    (shift,) = [one for one in shifts(rota, second - 6 * HOUR, second + 6 * HOUR)
                if one.starts_at <= second < one.ends_at]  # fmt: skip
    assert (shift.person, shift.ends_at - shift.starts_at) == ("carol", 2 * HOUR)
    assert who(rota, second) == "carol"


def test_before_the_first_turn_and_after_the_last_there_is_a_gap() -> None:
    layer = LayerRule("short", ("alice",), "day", 1, date(2026, 1, 5), time(9), ends_on=date(2026, 1, 7))
    found = shifts(Rota(BERLIN, (layer,)), at("2026-01-04T00:00"), at("2026-01-09T00:00"))
    assert [(one.person, one.is_gap) for one in found] == [("", True), ("alice", False), ("alice", False), ("", True)]
    assert found[-1].starts_at == at("2026-01-07T09:00")
    assert who(Rota(BERLIN, (layer,)), at("2026-01-07T09:00")) == ""


def test_a_higher_layer_goes_before_a_lower_one_where_it_has_somebody() -> None:
    nights = LayerRule("nights", ("carol",), "week", 1, date(2026, 1, 5), time(9),
                       from_time=time(22), until_time=time(6))  # fmt: skip
    assert told(Rota(BERLIN, (WEEKLY, nights)), "2026-01-07T12:00", "2026-01-08T12:00") == [
        ("alice", "07 12:00"),
        ("carol", "07 22:00"),
        ("alice", "08 06:00"),
    ]


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday = LayerRule("friday night", ("carol",), "week", 1, date(2026, 1, 5), time(9), days=frozenset({4}),
                       from_time=time(22), until_time=time(6))  # fmt: skip
    rota = Rota(BERLIN, (friday,))
    assert who(rota, at("2026-01-10T05:59")) == "carol"  # Saturday morning
    assert who(rota, at("2026-01-10T22:30")) == ""  # Saturday night
    assert who(rota, at("2026-01-09T05:00")) == ""  # Friday morning


def test_whole_days_meet_at_midnight_without_a_seam() -> None:
    weekend = LayerRule("weekend", ("carol",), "week", 1, date(2026, 1, 5), time(9), days=frozenset({5, 6}))
    assert told(Rota(BERLIN, (weekend,)), "2026-01-09T00:00", "2026-01-13T00:00") == [
        ("", "09 00:00"),
        ("carol", "10 00:00"),
        ("", "12 00:00"),
    ]


def test_a_window_around_the_clock_is_the_whole_day() -> None:
    same = LayerRule("all", ("alice",), "week", 1, date(2026, 1, 5), time(9), from_time=time(7), until_time=time(7))
    assert told(Rota(BERLIN, (same,)), "2026-01-05T09:00", "2026-01-12T09:00") == [("alice", "05 09:00")]


def test_somebody_who_is_away_is_covered_by_the_next_for_these_days_only() -> None:
    away = (Away("alice", date(2026, 1, 7), date(2026, 1, 8)),)
    found = shifts(Rota(BERLIN, (WEEKLY,), absences=away), at("2026-01-05T09:00"), at("2026-01-12T09:00"))
    assert [(one.person, one.why) for one in found] == [
        ("alice", Why.LAYER),
        ("bob", Why.COVER),
        ("alice", Why.LAYER),
    ]
    assert (found[1].starts_at, found[1].ends_at) == (at("2026-01-07T00:00"), at("2026-01-09T00:00"))


def test_the_next_of_the_layer_covers_and_not_the_one_before() -> None:
    three = LayerRule("three", ("alice", "bob", "carol"), "week", 1, date(2026, 1, 5), time(9))
    away = (Away("bob", date(2026, 1, 14), date(2026, 1, 14)),)
    assert who(Rota(BERLIN, (three,), absences=away), at("2026-01-14T12:00")) == "carol"
    both = (*away, Away("carol", date(2026, 1, 14), date(2026, 1, 14)))
    assert who(Rota(BERLIN, (three,), absences=both), at("2026-01-14T12:00")) == "alice"


def test_when_all_are_away_there_is_a_gap_or_a_lower_layer() -> None:
    away = (Away("alice", date(2026, 1, 7), date(2026, 1, 7)), Away("bob", date(2026, 1, 7), date(2026, 1, 7)))
    assert who(Rota(BERLIN, (WEEKLY,), absences=away), at("2026-01-07T12:00")) == ""
    ground = LayerRule("ground", ("carol",), "week", 1, date(2026, 1, 5), time(9))
    assert who(Rota(BERLIN, (ground, WEEKLY), absences=away), at("2026-01-07T12:00")) == "carol"


def test_somebody_who_is_gone_loses_turns_and_overrides() -> None:
    stand = Stand("carol", at("2026-01-07T12:00"), at("2026-01-07T18:00"), 1)
    rota = Rota(BERLIN, (WEEKLY,), (stand,), gone=frozenset({"alice", "carol"}))
    assert who(rota, at("2026-01-07T13:00")) == "bob"


def test_an_override_goes_before_all_layers_and_the_latest_before_the_others() -> None:
    stands = (
        Stand("carol", at("2026-01-07T12:00"), at("2026-01-07T18:00"), 1),
        Stand("dana", at("2026-01-07T14:00"), at("2026-01-07T16:00"), 2, is_swap=True),
    )
    found = shifts(Rota(BERLIN, (WEEKLY,), stands), at("2026-01-07T11:00"), at("2026-01-07T19:00"))
    assert [(one.person, one.why) for one in found] == [
        ("alice", Why.LAYER),
        ("carol", Why.OVERRIDE),
        ("dana", Why.SWAP),
        ("carol", Why.OVERRIDE),
        ("alice", Why.LAYER),
    ]


def test_an_override_holds_also_while_its_person_is_away() -> None:
    """Somebody said so after they knew of the absence, or before; the page shows both."""
    stand = Stand("alice", at("2026-01-07T12:00"), at("2026-01-07T18:00"), 1)
    away = (Away("alice", date(2026, 1, 7), date(2026, 1, 7)),)
    assert who(Rota(BERLIN, (WEEKLY,), (stand,), away), at("2026-01-07T13:00")) == "alice"


def test_stretches_join_turns_of_one_person() -> None:
    alone = LayerRule("alone", ("alice",), "week", 1, date(2026, 1, 5), time(9))
    found = shifts(Rota(BERLIN, (alone,)), at("2026-01-05T09:00"), at("2026-01-26T09:00"))
    assert len(found) == 3
    assert [(one.starts_at, one.ends_at) for one in stretches(found)] == [
        (at("2026-01-05T09:00"), at("2026-01-26T09:00"))
    ]


def test_no_layers_and_no_time_are_told_too() -> None:
    assert shifts(Rota(BERLIN), at("2026-01-05T09:00"), at("2026-01-05T09:00")) == []
    (gap,) = shifts(Rota(BERLIN), at("2026-01-05T09:00"), at("2026-01-06T09:00"))
    assert gap.is_gap
