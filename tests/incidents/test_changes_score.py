"""How likely a change is to blame: pure, so by example and by property."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from incidents.changes import BOUND, SHOWN, Change, Outcome, What, likely, ranked, reason, score

FIRST = datetime(2026, 11, 24, 14, 39, 11, tzinfo=UTC)
HERE = ("production",)
ENDED = FIRST - timedelta(minutes=3)
DEPLOY = Change(
    key="operation 7", what=What.DEPLOYMENT, title="deploy of pitchey-backend 1.5.0",
    began_at=FIRST - timedelta(minutes=5), ended_at=ENDED, environments=HERE,
)  # fmt: skip

spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2))
places = st.sampled_from([(), ("production",), ("staging",), ("production", "staging")])
changes = st.builds(
    lambda what, outcome, gap, took, environments, number: Change(
        f"operation {number}", what, f"change {number}", FIRST - gap - took, FIRST - gap, environments, outcome
    ),
    st.sampled_from(What), st.sampled_from(Outcome), spans, spans, places, st.integers(1, 10**6),
)  # fmt: skip


def at(change: Change, gap: timedelta) -> Change:
    """The same change, ended so long before the first alert."""
    return replace(change, began_at=FIRST - gap - timedelta(minutes=1), ended_at=FIRST - gap)


class TestReason:
    def test_says_what_when_and_where(self) -> None:
        assert reason(DEPLOY, FIRST, HERE) == (
            "deploy of pitchey-backend 1.5.0, finished 3 min before the first alert, same environment"
        )

    def test_says_that_it_was_still_running(self) -> None:
        moving = replace(DEPLOY, ended_at=None, outcome=Outcome.RUNNING)
        assert "was running when the first alert came" in reason(moving, FIRST, HERE)
        ended_later = replace(DEPLOY, ended_at=FIRST + timedelta(minutes=2))
        assert "was running when the first alert came" in reason(ended_later, FIRST, HERE)

    def test_says_where_else_it_was(self) -> None:
        assert reason(replace(DEPLOY, environments=("staging",)), FIRST, HERE).endswith("but in staging")
        assert reason(replace(DEPLOY, environments=()), FIRST, HERE).endswith("for the whole installation")
        assert reason(DEPLOY, FIRST, ()).endswith("in production")

    def test_says_how_it_went_wrong(self) -> None:
        put_back = replace(DEPLOY, outcome=Outcome.PUT_BACK)
        assert "failed and was put back 3 min before" in reason(put_back, FIRST, HERE)
        failed = replace(DEPLOY, outcome=Outcome.HALF_WAY, word="failed")
        assert ", failed 3 min before" in reason(failed, FIRST, HERE)

    def test_what_took_no_time_was_made_and_not_finished(self) -> None:
        set_ = replace(DEPLOY, what=What.CONFIGURATION, title="configuration of production", began_at=ENDED)
        assert reason(set_, FIRST, HERE) == (
            "configuration of production, made 3 min before the first alert, same environment"
        )


class TestBound:
    def test_a_deployment_just_before_is_said(self) -> None:
        assert likely(ranked([DEPLOY], FIRST, HERE))[0].change == DEPLOY

    def test_silent_when_the_best_one_is_long_ago(self) -> None:
        assert likely(ranked([at(DEPLOY, timedelta(hours=3))], FIRST, HERE)) == []

    def test_silent_about_locks_and_backups_however_near(self) -> None:
        near = [replace(at(DEPLOY, timedelta(0)), what=what) for what in (What.LOCK, What.BACKUP)]
        assert likely(ranked(near, FIRST, HERE)) == []

    def test_silent_about_a_configuration_elsewhere(self) -> None:
        other = replace(DEPLOY, what=What.CONFIGURATION, environments=("staging",))
        assert likely(ranked([other], FIRST, HERE)) == []

    def test_what_began_after_the_first_alert_is_not_to_blame(self) -> None:
        after = replace(DEPLOY, began_at=FIRST + timedelta(seconds=1), ended_at=None)
        assert ranked([after], FIRST, HERE) == []

    def test_a_few_are_enough(self) -> None:
        many = [replace(DEPLOY, key=f"operation {number}") for number in range(20)]
        assert len(likely(ranked(many, FIRST, HERE))) == SHOWN


class TestOrder:
    def test_a_deployment_before_a_configuration_before_a_restore_before_a_backup(self) -> None:
        kinds = [What.DEPLOYMENT, What.CONFIGURATION, What.RESTORE, What.BACKUP, What.LOCK]
        mixed = [replace(DEPLOY, what=what, key=str(what)) for what in reversed(kinds)]
        assert [one.change.what for one in ranked(mixed, FIRST, HERE)] == kinds

    def test_here_before_elsewhere(self) -> None:
        elsewhere = replace(at(DEPLOY, timedelta(minutes=1)), environments=("staging",), key="operation 8")
        assert [one.change.key for one in ranked([elsewhere, DEPLOY], FIRST, HERE)] == ["operation 7", "operation 8"]

    def test_what_stopped_half_way_before_what_was_put_back(self) -> None:
        half, back = replace(DEPLOY, outcome=Outcome.HALF_WAY), replace(DEPLOY, outcome=Outcome.PUT_BACK)
        assert score(half, FIRST, HERE) > score(DEPLOY, FIRST, HERE) > score(back, FIRST, HERE)


class TestProperties:
    @given(changes, spans, spans, places)
    def test_a_nearer_one_never_counts_less(
        self, change: Change, one: timedelta, other: timedelta, environments: tuple[str, ...]
    ) -> None:
        near, far = sorted([one, other])
        assert score(at(change, near), FIRST, environments) >= score(at(change, far), FIRST, environments)

    @given(changes, places)
    def test_the_same_environment_never_counts_less_than_another(
        self, change: Change, environments: tuple[str, ...]
    ) -> None:
        elsewhere = replace(change, environments=("development",))
        same = replace(change, environments=environments or ("development",))
        assert score(same, FIRST, environments) >= score(elsewhere, FIRST, environments)

    @given(changes, places)
    def test_is_between_nothing_and_one(self, change: Change, environments: tuple[str, ...]) -> None:
        assert 0 <= score(change, FIRST, environments) <= 1

    @given(st.lists(changes, max_size=8, unique_by=lambda one: one.key), st.randoms(), places)
    def test_the_order_does_not_depend_on_the_order_of_reading(
        self, found: list[Change], luck: object, environments: tuple[str, ...]
    ) -> None:
        shuffled = list(found)
        luck.shuffle(shuffled)  # type: ignore[attr-defined]
        assert ranked(shuffled, FIRST, environments) == ranked(found, FIRST, environments)

    @given(st.lists(changes, max_size=12), places)
    def test_what_is_said_is_never_below_the_bound(self, found: list[Change], environments: tuple[str, ...]) -> None:
        said = likely(ranked(found, FIRST, environments))
        assert all(one.score >= BOUND for one in said)
        assert [one.score for one in said] == sorted((one.score for one in said), reverse=True)
