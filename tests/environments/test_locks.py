"""Locks take a reason of bounded length; of environments that nobody declared nothing is written down."""

import threading

import pytest
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import CHAIN_LOCK
from controlplane.operations.errors import Conflict, Invalid
from environments.locks import release, take
from environments.models import EnvironmentLock
from tests.estate import Estate

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("reason", "words"), [("  ", "Say why"), ("x" * 2001, "at most 2000 characters")])
def test_a_reason_is_given_and_bounded(estate: Estate, alice: Person, reason: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        take(Actor(alice), estate.production, reason)
    assert not EnvironmentLock.objects.exists()


def test_the_same_word_is_given_once_and_again_after_its_release(estate: Estate, alice: Person, bob: Person) -> None:
    lock = take(Actor(alice), estate.production, "migration")
    with pytest.raises(Conflict, match="locked it already"):
        take(Actor(alice), estate.production, " migration ")
    take(Actor(alice), estate.production, "another")
    take(Actor(bob), estate.production, "migration")
    take(Actor(alice), estate.staging, "migration")
    release(Actor(alice), estate.production, lock.pk)
    take(Actor(alice), estate.production, "migration")
    assert EnvironmentLock.objects.count() == 5


def test_a_second_click_is_told_so(client: Client, estate: Estate, alice: Person) -> None:
    client.force_login(alice)
    answers = [client.post("/environments/production/lock", {"reason": "migration"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 409]
    assert "You have locked it already" in answers[1].content.decode()


@pytest.mark.django_db(transaction=True)
def test_of_two_clicks_at_once_one_takes_it(estate: Estate, alice: Person) -> None:
    """Neither can end before both have come as far as they can: the one to the trail, the other to the environment."""
    told: list[str] = []

    def click() -> None:
        try:
            take(Actor(alice), estate.production, "migration")
            told.append("taken")
        except Conflict:
            told.append("refused")
        finally:
            connection.close()

    clicks = [threading.Thread(target=click) for _ in range(2)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [CHAIN_LOCK])
        for one in clicks:
            one.start()
        while waiting(cursor) < len(clicks):
            assert all(one.is_alive() for one in clicks)
        cursor.execute("SELECT pg_advisory_unlock(%s)", [CHAIN_LOCK])
    for one in clicks:
        one.join()
    assert sorted(told) == ["refused", "taken"]
    assert EnvironmentLock.objects.count() == 1


def waiting(cursor: CursorWrapper) -> int:
    """How many of this database's connections wait for a lock."""
    cursor.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    count: int = cursor.fetchone()[0]
    return count


def test_the_page_says_so_too(client: Client, estate: Estate, alice: Person) -> None:
    client.force_login(alice)
    answer = client.post("/environments/production/lock", {"reason": "x" * 900_000})
    assert answer.status_code == 422
    assert len(client.get("/").content) < 100_000


def test_an_environment_that_nobody_declared_is_not_found_and_leaves_no_trace(
    client: Client, estate: Estate, charlie: Person
) -> None:
    client.force_login(charlie)
    for slug in ("nowhere", "x" * 6000):
        assert client.get(f"/environments/{slug}").status_code == 404
    assert client.get("/environments/production").status_code == 404
    assert list(Entry.objects.filter(action="access.denied").values_list("scopes", flat=True)) == [["production"]]
