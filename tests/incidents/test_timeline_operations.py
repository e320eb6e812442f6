"""What the clock writes into timelines of operations, configuration and locks: once each, with their own times."""

from datetime import timedelta

import pytest
from django.db import transaction

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM, record
from controlplane.operations.models import Approval, Operation
from controlplane.operations.states import State
from deployments.services import request_deployment
from environments import locks
from environments.models import Environment
from incidents import lifecycle, noting, timeline
from incidents.models import Incident, NotedUpTo
from tests.estate import Estate
from tests.incidents.lessons import opened

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def read_so_far(db: None) -> None:
    """The clock has run before."""
    noting.note_new()


def said(incident: Incident) -> list[str]:
    """What the line says of operations and changes, but for what the incident itself does with its locks."""
    rows = incident.timeline.filter(data__has_key="audit").order_by("at", "seq")
    return list(rows.values_list("text", flat=True))


def asked(actor: Person, estate: Estate, environment: Environment | None = None, version: str = "1.5.0") -> Operation:
    place, release = environment or estate.production, estate.releases[version]
    return request_deployment(Actor(actor), environment=place, release=release, reason="new search")


def moved(operation: Operation, state: State, **fields: object) -> Entry:
    """As `transitions.move` leaves it: the row and its entry in the audit trail."""
    with transaction.atomic():
        Operation.objects.filter(pk=operation.pk).update(state=state, **fields)
        return record(SYSTEM("worker w1"), f"operation.{state}", f"operation {operation.pk}", scopes=operation.scopes)


def started(operation: Operation) -> Entry:
    entry = moved(operation, State.RUNNING)
    Operation.objects.filter(pk=operation.pk).update(started_at=entry.at)
    return entry


def ended(operation: Operation, state: State = State.SUCCEEDED, outcome: str = "") -> Entry:
    entry = moved(operation, State.RUNNING)
    return moved(operation, state, started_at=entry.at, finished_at=entry.at + timedelta(seconds=66), outcome=outcome)


class TestAfterTheOpening:
    def test_start_and_end_are_said_with_who_asked_and_who_approved(
        self, alice: Person, bob: Person, estate: Estate
    ) -> None:
        incident = opened(severity="P2")
        operation = asked(alice, estate)
        Approval.objects.create(
            operation=operation, person=bob, person_name="Bob", decision="approved", plan_digest=operation.plan_digest
        )
        begin = started(operation)
        noting.note_new()
        assert said(incident) == ["Deploy api 1.5.0 to production: started (approved by Bob)"]
        entry = incident.timeline.get(data__has_key="audit")
        assert (entry.actor, entry.at, entry.data["operation"]) == (alice.title_name, begin.at, operation.pk)
        moved(operation, State.FAILED, finished_at=begin.at, outcome="put back: /health answered 503 on production-1")
        noting.note_new()
        assert said(incident)[1].startswith("Deploy api 1.5.0 to production: failed, put back in ")
        assert said(incident)[1].endswith("put back: /health answered 503 on production-1 (approved by Bob)")

    def test_configuration_and_locks_are_said(self, alice: Person, estate: Estate) -> None:
        incident = opened(severity="P2")
        changes = {"POOL": ["“20”", "“5”"], "A": [None, "“1”"], "B": ["“2”", None], "C": ["“3”", "“4”"]}
        with transaction.atomic():
            record(SYSTEM("file"), "environment.configured", "environment production", scopes=["production"],
                   data={"changes": changes})  # fmt: skip
        lock = locks.take(Actor(alice), estate.production, "a freeze")
        locks.release(Actor(alice), estate.production, lock.pk)
        noting.note_new()
        configured, locked, released = said(incident)
        assert configured.startswith("Changed: configuration of production: ")
        assert configured.endswith(", 1 more")
        assert (locked, released) == (
            "production is locked: a freeze",
            "The lock on production was released (a freeze)",
        )

    def test_its_own_lock_is_not_said_twice(self, alice: Person, estate: Estate) -> None:
        incident = opened()
        noting.note_new()
        assert said(incident) == []
        assert incident.timeline.filter(text__contains="is locked against deployments").count() == 1

    def test_other_environments_are_left_out(self, alice: Person, estate: Estate) -> None:
        here, everywhere = opened(severity="P2"), opened(severity="P2", environments=[])
        started(asked(alice, estate, estate.staging, "1.6.0"))
        noting.note_new()
        assert said(here) == []
        assert said(everywhere) == ["Deploy api 1.6.0 to staging: started"]

    def test_nothing_more_is_written_once_it_is_over(self, alice: Person, estate: Estate) -> None:
        incident = opened(severity="P2")
        lifecycle.resolve(incident.pk, Actor(alice).who, "restarted")
        started(asked(alice, estate))
        noting.note_new()
        assert said(incident) == []

    def test_what_machines_do_well_is_no_news_and_what_goes_wrong_is(self, alice: Person, estate: Estate) -> None:
        incident = opened(severity="P2")
        for state in (State.SUCCEEDED, State.FAILED):
            operation = asked(alice, estate)
            Operation.objects.filter(pk=operation.pk).update(requested_by=None, requested_by_name="system: schedule")
            ended(operation, state)
        noting.note_new()
        assert len(said(incident)) == 1
        assert "failed" in said(incident)[0]


class TestBeforeTheOpening:
    def test_is_filled_in_with_its_own_time(self, alice: Person, estate: Estate) -> None:
        ending = ended(asked(alice, estate))
        incident = opened(severity="P2")
        noting.note_new()
        assert len(said(incident)) == 1  # its start is told by its end
        entry = incident.timeline.get(data__has_key="audit")
        assert entry.at == ending.at < incident.timeline.get(seq=1).at < entry.recorded_at
        assert entry.text.startswith("Deploy api 1.5.0 to production: succeeded in")

    def test_what_is_under_way_says_that_it_started(self, alice: Person, estate: Estate) -> None:
        started(asked(alice, estate))
        incident = opened(severity="P2")
        noting.note_new()
        assert said(incident) == ["Deploy api 1.5.0 to production: started"]

    def test_reaches_back_half_an_hour(self, alice: Person, estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
        assert timedelta(minutes=30) == noting.BEFORE
        monkeypatch.setattr(noting, "BEFORE", timedelta(0))
        ended(asked(alice, estate))
        incident = opened(severity="P2")
        noting.note_new()
        assert said(incident) == []


class TestOnce:
    def test_clocks_that_read_the_same_piece_write_it_once(self, alice: Person, estate: Estate) -> None:
        ended(asked(alice, estate))
        incident = opened(severity="P2")
        started(asked(alice, estate))
        before = NotedUpTo.objects.get().entry
        noting.note_new()
        wrote = said(incident)
        assert len(wrote) == 2
        NotedUpTo.objects.update(entry=before)  # another one had read it at the same time, or this one died
        noting.note_new()
        assert said(incident) == wrote

    def test_the_cursor_moves_past_what_is_of_no_interest(self, alice: Person, estate: Estate) -> None:
        asked(alice, estate)
        noting.note_new()
        last = Entry.objects.order_by("-pk").first()
        assert last is not None
        assert NotedUpTo.objects.get().entry == last.pk
        assert noting.note_new() == 0

    def test_long_pieces_are_read_in_parts(
        self, alice: Person, estate: Estate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        incident = opened(severity="P2")
        noting.note_new()
        monkeypatch.setattr(noting, "PIECE", 2)
        for _ in range(3):
            ended(asked(alice, estate))
        assert [noting.note_new() for _ in range(4)] == [2, 2, 2, 0]
        assert len(said(incident)) == 6

    def test_the_first_time_begins_with_what_is_still_open(self, alice: Person, estate: Estate) -> None:
        incident = opened(severity="P2")
        started(asked(alice, estate))
        NotedUpTo.objects.all().delete()
        noting.note_new()
        assert len(said(incident)) == 1

    def test_the_chain_holds(self, alice: Person, estate: Estate) -> None:
        ended(asked(alice, estate))
        incident = opened(severity="P2")
        started(asked(alice, estate))
        noting.note_new()
        incident.refresh_from_db()
        rows = [timeline.fields_of(one) | {"hash": one.hash} for one in incident.timeline.order_by("seq")]
        assert timeline.verify(rows, incident.head_hash) == incident.last_seq
