"""An entry is there if, and only if, what it tells of happened; and entries wait for each other."""

import threading

import pytest
from django.db import connection, transaction

from controlplane.accounts.models import Person
from controlplane.audit.chain import verify
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM, Who, record, record_denied

WHO = SYSTEM("test")


@pytest.mark.django_db(transaction=True)
def test_it_belongs_into_a_transaction() -> None:
    with pytest.raises(AssertionError):
        record(WHO, "thing.done", "thing 1")


@pytest.mark.django_db(transaction=True)
def test_what_did_not_happen_leaves_nothing_and_no_gap() -> None:
    with transaction.atomic():
        record(WHO, "thing.done", "thing 1")
        transaction.set_rollback(True)
    with transaction.atomic():
        record(WHO, "thing.done", "thing 2")
    assert verify(Entry.objects.order_by("pk")).count == 1


@pytest.mark.django_db(transaction=True)
def test_a_refusal_is_kept_though_everything_else_is_rolled_back() -> None:
    entry = record_denied(WHO, "access.denied", "thing 1", scopes=["b", "a", "b"], reason="no")
    assert Entry.objects.get() == entry
    assert (entry.scopes, entry.data) == (["a", "b"], {"denied": True})
    with pytest.raises(RuntimeError), transaction.atomic():
        record_denied(WHO, "access.denied", "thing 1", reason="no")


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_one_chain() -> None:
    """Four threads, each with ten transactions of two entries."""
    barrier = threading.Barrier(4)

    def write(number: int) -> None:
        barrier.wait()
        for turn in range(10):
            with transaction.atomic():
                record(WHO, "thing.done", f"thing {number}")
                record(WHO, "thing.done", f"turn {turn}")
        connection.close()

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(Entry.objects.order_by("pk")).count == 80
    times = list(Entry.objects.order_by("pk").values_list("at", flat=True))
    assert times == sorted(times)


@pytest.mark.django_db
def test_deleting_a_person_keeps_the_name(alice: Person) -> None:
    entry = record(Who(alice.title_name, alice.pk, "web"), "thing.done", "thing 1")
    alice.delete()
    entry.refresh_from_db()
    assert entry.actor == "Alice"
    assert entry.actor_id


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["nul \0", "half \ud800", "long " * 1000, "ünïcode \N{SNOWMAN}"])
def test_no_text_keeps_an_attempt_out(text: str) -> None:
    entry = record(Who(text, None, text), "thing.done", text, reason=text, data={"said": text, "deep": [{text: 1}]})
    assert verify(Entry.objects.order_by("pk")).head == entry.hash
