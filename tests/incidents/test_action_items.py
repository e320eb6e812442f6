"""An action item has an owner, a day, and a way to see that it worked; another verifies it; overdue ones escalate."""

from datetime import date, timedelta

import pytest
from django.db import connection

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.errors import Conflict, Invalid, Refused
from incidents import late
from incidents.lessons import action_items, reminders
from incidents.models import ActionItem, Channel, Delivery, Incident, TimelineEntry
from incidents.timeline import Kind
from tests.estate import Estate
from tests.incidents.lessons import resolved

pytestmark = pytest.mark.django_db


def today() -> date:
    with connection.cursor() as cursor:
        cursor.execute("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
        found: date = cursor.fetchone()[0]
        return found


@pytest.fixture
def incident(alice: Person, estate: Estate) -> Incident:
    """One that is over."""
    return resolved(alice)


@pytest.fixture
def item(incident: Incident, alice: Person, bob: Person) -> ActionItem:
    """Bob has a week for it."""
    return action_items.add(
        incident.pk, Actor(alice), title="Alert on the pool", owner=bob, due_on=today() + timedelta(days=7),
        verification="the alert fires in staging",
    )  # fmt: skip


def told(incident: Incident) -> list[str]:
    rows = TimelineEntry.objects.filter(incident=incident, kind=Kind.POST_MORTEM).order_by("seq")
    return list(rows.values_list("text", flat=True))


def test_it_is_written_down_with_all_that_it_needs(item: ActionItem, incident: Incident) -> None:
    assert (item.owner_name, item.state) == ("Bob", "open")
    assert told(incident)[-1] == f"Action item for Bob until {item.due_on}: Alert on the pool"
    assert Entry.objects.get(action="action_item.added").data["owner"] == "Bob"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": " "}, "what is to be done"),
        ({"title": "x" * 301}, "300 characters"),
        ({"verification": ""}, "how one will know"),
        ({"owner": None}, "who will do it"),
        ({"due_on": None}, "until when"),
        ({"due_on": date(2020, 1, 1)}, "not over yet"),
    ],
)
def test_nothing_of_it_may_be_missing(incident: Incident, alice: Person, change: dict[str, object], words: str) -> None:
    given: dict[str, object] = {
        "title": "t", "owner": alice, "due_on": today(), "verification": "v", **change,
    }  # fmt: skip
    with pytest.raises(Invalid, match=words):
        action_items.add(incident.pk, Actor(alice), **given)  # type: ignore[arg-type]
    assert not ActionItem.objects.exists()


def test_done_needs_evidence_and_somebody_else_verifies(item: ActionItem, alice: Person, bob: Person) -> None:
    with pytest.raises(Invalid, match="what shows that it is done"):
        action_items.done(item.pk, Actor(bob), " ")
    with pytest.raises(Conflict, match="only what is done"):
        action_items.verify(item.pk, Actor(alice), "seen")
    assert action_items.done(item.pk, Actor(bob), "commit 1a2b").state == "done"
    with pytest.raises(Conflict, match="It is done already"):
        action_items.done(item.pk, Actor(bob), "again")
    with pytest.raises(Refused, match="somebody else has to verify it"):
        action_items.verify(item.pk, Actor(bob), "works for me")
    verified = action_items.verify(item.pk, Actor(alice), "it fired in staging")
    assert (verified.state, verified.verified_by_name, verified.words) == ("verified", "Alice", "commit 1a2b")


def test_whoever_is_said_to_be_done_by_another_is_still_the_owner(item: ActionItem, alice: Person, bob: Person) -> None:
    action_items.done(item.pk, Actor(alice), "she did it for him")
    with pytest.raises(Refused):
        action_items.verify(item.pk, Actor(bob), "fine")


def test_dropping_needs_a_reason(item: ActionItem, alice: Person) -> None:
    with pytest.raises(Invalid, match="why it is dropped"):
        action_items.drop(item.pk, Actor(alice), "")
    assert action_items.drop(item.pk, Actor(alice), "the service is gone").state == "dropped"
    with pytest.raises(Conflict):
        action_items.drop(item.pk, Actor(alice), "again")


def test_what_does_not_hold_is_opened_again(item: ActionItem, incident: Incident, alice: Person, bob: Person) -> None:
    action_items.done(item.pk, Actor(bob), "commit 1a2b")
    again = action_items.reopen(item.pk, Actor(alice), "it never fires")
    assert (again.state, again.settled_at, again.words) == ("open", None, "commit 1a2b")
    assert told(incident)[-1] == "Action item “Alert on the pool” opened again: it never fires"


class TestOverdue:
    @pytest.fixture(autouse=True)
    def channels(self, item: ActionItem, bob: Person) -> None:
        for kind in ("email", "slack"):
            Channel.objects.create(kind=kind)
        Person.objects.filter(pk=bob.pk).update(email="bob@example.org")
        Delivery.objects.all().delete()

    def late(self, item: ActionItem, days: int) -> None:
        ActionItem.objects.filter(pk=item.pk).update(due_on=today() - timedelta(days=days))

    def sent(self) -> list[tuple[str, str]]:
        rows = Delivery.objects.filter(purpose=Delivery.Purpose.NOTICE).order_by("pk")
        return list(rows.values_list("channel", "address"))

    def test_nobody_is_reminded_on_the_day_itself(self, item: ActionItem) -> None:
        self.late(item, 0)
        assert reminders.remind() == 0
        assert self.sent() == []

    def test_the_owner_on_the_first_day_once(self, item: ActionItem, incident: Incident) -> None:
        self.late(item, 1)
        assert [reminders.remind() for _ in range(3)] == [1, 0, 0]
        assert self.sent() == [("email", "bob@example.org")]
        assert told(incident)[-1] == "Action item “Alert on the pool” is 1 day overdue: Bob is reminded"

    def test_the_team_three_days_later_once(self, item: ActionItem, incident: Incident) -> None:
        self.late(item, 1)
        reminders.remind()
        self.late(item, 3)
        assert reminders.remind() == 0
        self.late(item, 4)
        assert [reminders.remind() for _ in range(3)] == [1, 0, 0]
        assert self.sent()[1:] == [("email", "bob@example.org"), ("slack", "")]
        assert told(incident)[-1] == "Action item “Alert on the pool” is 4 days overdue: the team is told"

    def test_a_second_clock_that_read_the_same_list_sends_nothing(self, item: ActionItem, incident: Incident) -> None:
        self.late(item, 1)
        assert [reminders._remind(item.pk, incident.pk, today()) for _ in range(2)] == [True, False]
        assert len(self.sent()) == 1

    def test_after_an_outage_the_team_hears_at_once(self, item: ActionItem) -> None:
        self.late(item, 30)
        assert reminders.remind() == 1
        assert ("slack", "") in self.sent()
        assert reminders.remind() == 0

    def test_what_is_done_or_dropped_reminds_nobody(self, item: ActionItem, bob: Person) -> None:
        self.late(item, 9)
        action_items.done(item.pk, Actor(bob), "commit")
        assert reminders.remind() == 0

    def test_an_owner_without_an_address_is_said(self, item: ActionItem, incident: Incident, bob: Person) -> None:
        Person.objects.filter(pk=bob.pk).update(email="")
        self.late(item, 1)
        reminders.remind()
        assert self.sent() == []
        assert told(incident)[-1].endswith("Bob has no e-mail to be reminded by")

    def test_the_board_is_orange_and_then_red(
        self, item: ActionItem, dana: Person, charlie: Person, eve: Person
    ) -> None:
        def cards(who: Person) -> list[tuple[str, str]]:
            return [(card.tone, card.title) for card in late.cards(Actor(who), reminders.OVERDUE)]

        assert cards(dana) == []
        self.late(item, 1)
        assert cards(dana) == [("wait", "An action item is overdue")]
        self.late(item, 4)
        assert cards(dana) == [("bad", "An action item is overdue")]
        assert cards(charlie) == []
        assert cards(eve) == []
