"""Runs are opened ahead of their time, once; what was not done in time is missed, by the database's clock, and said."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Invalid
from incidents import late
from incidents.models import Alert, Layer, RunbookRun, RunbookTask, Schedule
from incidents.runbook import services
from incidents.runbook.board import MISSED
from incidents.runbook.checks import CHECKS, Seen
from incidents.runbook.duty import look, miss_due, open_due, say_missed, write
from tests.incidents.runbook import run, task

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def states(of: RunbookTask) -> list[str]:
    return list(RunbookRun.objects.filter(task=of).order_by("due_at").values_list("state", flat=True))


class TestOpening:
    def test_a_run_is_there_before_it_is_due(self, db: None) -> None:
        at = database_time() + timedelta(hours=26)
        one = task(due=f"{at.minute} {at.hour} {at.day} {at.month} *", cadence="monthly", since=database_time())
        opens = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        expected = 1 if opens <= database_time() else 0
        assert open_due() == expected
        assert open_due() == 0
        for made in RunbookRun.objects.filter(task=one):
            assert made.opens_at <= database_time() < made.due_at

    def test_what_fell_due_before_a_task_was_there_was_not_missed(self, db: None) -> None:
        one = task(due="* * * * *", since=database_time())
        open_due()
        assert not RunbookRun.objects.filter(task=one, due_at__lte=one.since).exists()

    def test_what_fell_due_while_no_clock_ran_is_opened_and_missed(self, db: None) -> None:
        one = task(since=database_time() - 4 * DAY)
        open_due()
        miss_due()
        found = states(one)
        assert found.count("missed") in (3, 4)
        assert set(found[:-1]) == {"missed"} or set(found) == {"missed"}

    def test_after_a_long_time_it_catches_up_some_at_once(self, db: None) -> None:
        one = task(since=database_time() - 100 * DAY)
        assert open_due() == 60
        assert open_due() in (40, 41)
        assert open_due() == 0
        assert len(set(RunbookRun.objects.filter(task=one).values_list("due_at"))) == len(states(one))

    def test_nothing_is_opened_while_it_is_paused(self, db: None) -> None:
        task(paused=True)
        assert open_due() == 0

    def test_the_owner_is_a_person_or_whoever_is_on_call(self, alice: Person, bob: Person) -> None:
        schedule = Schedule.objects.create(slug="primary", name="Primary")
        Layer.objects.create(schedule=schedule, position=0, name="all", people=["bob"],
                             starts_on="2020-01-01", handover="09:00")  # fmt: skip
        since = database_time() - DAY
        named, turn = task("a", owner="alice", since=since), task("b", owner="schedule:primary", since=since)
        gap, nobody = task("c", owner="schedule:nights", since=since), task("d", since=since)
        open_due()
        owners = dict(RunbookRun.objects.values_list("task__slug", "owner_name"))
        assert owners == {named.slug: "Alice", turn.slug: "Bob", gap.slug: "", nobody.slug: ""}

    def test_an_owner_who_was_missing_is_given_later(self, alice: Person) -> None:
        one = run(task(owner="alice"))
        open_due()
        one.refresh_from_db()
        assert one.owner_name == "Alice"


class TestMissing:
    def test_it_is_missed_when_its_time_is_over_and_not_before(self, db: None) -> None:
        over, still = run(task("a"), left=timedelta(seconds=-1)), run(task("b"), left=timedelta(minutes=1))
        assert miss_due() == 1
        assert miss_due() == 0
        over.refresh_from_db()
        still.refresh_from_db()
        assert (over.state, still.state) == ("missed", "open")
        assert Entry.objects.filter(action="runbook.missed").count() == 1

    def test_it_raises_an_alert_that_ends_when_it_is_done(self, alice: Person) -> None:
        one = task()
        late = run(one, left=-DAY / 2, owner_name="Bob")
        miss_due()
        alert = Alert.objects.get()
        assert (alert.name, alert.state, alert.severity) == ("RunbookTaskMissed", "firing", "warning")
        assert alert.summary.endswith("Bob was to do it")
        say_missed()
        assert Alert.objects.get().count == 1
        services.tick(Actor(alice), one, late.pk, "all there")
        miss_due()
        assert Alert.objects.get().state == "resolved"

    def test_a_later_run_that_was_done_ends_the_matter(self, alice: Person, dana: Person) -> None:
        one = task()
        run(one, left=-DAY)
        later = run(one)
        miss_due()
        assert [card.title for card in late.cards(Actor(dana), MISSED)] == ["A runbook task was missed"]
        services.tick(Actor(alice), one, later.pk, "done today")
        miss_due()
        assert Alert.objects.get().state == "resolved"
        assert late.cards(Actor(dana), MISSED) == []

    def test_the_board_says_it_to_everybody_with_a_role(self, dana: Person, eve: Person, charlie: Person) -> None:
        for slug in ("a", "b"):
            run(task(slug), left=-DAY)
        miss_due()
        for who in (dana, eve):
            (card,) = late.cards(Actor(who), MISSED)
            assert (card.tone, card.title) == ("bad", "2 runbook tasks were missed")
        assert late.cards(Actor(charlie), MISSED) == []


class TestTicking:
    def test_it_is_done_with_evidence(self, alice: Person) -> None:
        one = task()
        open_run = run(one)
        with pytest.raises(Invalid, match="that is the evidence"):
            services.tick(Actor(alice), one, open_run.pk, "  ")
        done = services.tick(Actor(alice), one, open_run.pk, "all 5 are fresh")
        assert (done.state, done.done_by_name, done.evidence) == ("done", "Alice", "all 5 are fresh")
        with pytest.raises(Conflict, match="Alice has done it already"):
            services.tick(Actor(alice), one, open_run.pk, "again")
        assert Entry.objects.get(action="runbook.ticked").reason == "all 5 are fresh"

    @pytest.mark.parametrize("state", ["open", "missed"])
    def test_too_late_is_late_whether_a_clock_has_seen_it_or_not(self, alice: Person, state: str) -> None:
        one = task()
        over = run(one, left=timedelta(seconds=-1), state=state)
        assert services.tick(Actor(alice), one, over.pk, "forgot").state == "late"

    def test_a_run_of_another_task_is_none_of_this(self, alice: Person) -> None:
        other = run(task("a"))
        with pytest.raises(Conflict, match="no such run"):
            services.tick(Actor(alice), task("b"), other.pk, "x")

    def test_what_falls_due_while_it_is_paused_is_not_missed(self, ada: Person) -> None:
        one = task(since=database_time() - 10 * DAY)
        run(one)
        with pytest.raises(Invalid):
            services.pause(Actor(ada), one, "", paused=True)
        services.pause(Actor(ada), one, "the office is closed", paused=True)
        with pytest.raises(Conflict, match="paused already"):
            services.pause(Actor(ada), one, "again", paused=True)
        assert states(one) == []
        services.pause(Actor(ada), one, "we are back", paused=False)
        open_due()
        miss_due()
        assert "missed" not in states(one)


class TestLooking:
    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
        """What the check `health` sees; the last one counts. Each look is counted in `self.looks`."""
        found = [Seen(False, "1 of 3 does not answer")]
        self.looks = 0

        def check() -> Seen:
            self.looks += 1
            return found[-1]

        monkeypatch.setitem(CHECKS, "health", check)
        return found

    def again(self) -> None:
        RunbookRun.objects.update(seen_at=Now() - timedelta(minutes=6))

    def test_what_holds_is_ticked_with_the_proof(self, seen: list[Seen]) -> None:
        seen.append(Seen(True, "all 3 answer", "/board"))
        one = run(task(check_key="health"))
        assert look() == 1
        one.refresh_from_db()
        assert (one.state, one.done_by_name) == ("done", "the control plane")
        assert (one.evidence, one.evidence_url) == ("all 3 answer", "/board")
        assert Entry.objects.get(action="runbook.ticked").data["proof"] == "/board"

    def test_what_does_not_hold_stays_open_and_is_said(self, seen: list[Seen]) -> None:
        one = run(task(check_key="health"))
        look()
        one.refresh_from_db()
        assert (one.state, one.seen, one.evidence) == ("open", "1 of 3 does not answer", "")
        assert one.seen_at is not None
        assert look() == 0  # not so soon again
        self.again()
        seen.append(Seen(True, "all 3 answer"))
        assert look() == 1
        assert RunbookRun.objects.get().state == "done"

    def test_two_tasks_of_one_check_take_one_look(self, seen: list[Seen]) -> None:
        for slug in ("a", "b"):
            run(task(slug, check_key="health"))
        assert look() == 2
        assert self.looks == 1

    def test_what_was_missed_is_done_late(self, seen: list[Seen]) -> None:
        seen.append(Seen(True, "all 3 answer"))
        run(task(check_key="health"), left=-DAY / 4, state="missed")
        look()
        assert RunbookRun.objects.get().state == "late"

    def test_a_look_of_today_says_nothing_of_yesterday(self, seen: list[Seen]) -> None:
        seen.append(Seen(True, "all 3 answer"))
        one = task(check_key="health")
        yesterday = run(one, left=-DAY, state="missed")
        run(one)
        assert look() == 1
        yesterday.refresh_from_db()
        assert yesterday.state == "missed"

    def test_a_person_who_was_first_is_not_overwritten(self, seen: list[Seen], alice: Person) -> None:
        one = task(check_key="health")
        before = run(one)
        services.tick(Actor(alice), one, before.pk, "I looked")
        write(before, Seen(True, "all 3 answer"))
        assert RunbookRun.objects.get().done_by_name == "Alice"

    def test_a_check_that_breaks_keeps_no_other_from_looking(
        self, seen: list[Seen], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> Seen:
            raise ZeroDivisionError

        monkeypatch.setitem(CHECKS, "disk-space", broken)
        seen.append(Seen(True, "all 3 answer"))
        first = run(task("a", check_key="disk-space"), left=timedelta(minutes=1))
        second, third = run(task("b", check_key="health")), run(task("c", check_key="gone"))
        assert look() == 3
        for one in (first, second, third):
            one.refresh_from_db()
        assert [one.state for one in (first, second, third)] == ["open", "done", "open"]
        assert "broke" in first.seen
        assert "no check named gone" in third.seen

    def test_what_people_do_is_left_to_them(self, seen: list[Seen]) -> None:
        run(task())
        assert look() == 0
