"""Locks take a reason of bounded length; of environments that nobody declared nothing is written down."""

import pytest
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.errors import Invalid
from environments.locks import take
from environments.models import EnvironmentLock
from tests.estate import Estate

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("reason", "words"), [("  ", "Say why"), ("x" * 2001, "at most 2000 characters")])
def test_a_reason_is_given_and_bounded(estate: Estate, alice: Person, reason: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        take(Actor(alice), estate.production, reason)
    assert not EnvironmentLock.objects.exists()


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
