"""Who is asked to approve a deployment is told what it brings: on the operation's page, and on one of its own."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import Deployment, Release, ReleaseCommits
from deployments.services import request_deployment
from tests.deployments.history import built, history
from tests.deployments.insight.test_pages import page
from tests.estate import Estate

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(estate: Estate, alice: Person) -> Operation:
    """Alice has asked for 1.5.0 in production, which has three commits more than what runs there; bob may approve."""
    built(estate.releases["1.4.0"], 10)
    built(estate.releases["1.5.0"], 13, 8)
    operation = request_deployment(
        Actor(alice), environment=estate.production, release=estate.releases["1.5.0"], reason="because"
    )
    assert operation.state == State.AWAITING_APPROVAL
    return operation


def address_of(operation: Operation) -> str:
    return f"/deployments/{operation.pk}/commits"


def test_an_approver_reads_what_comes_before_saying_yes(client: Client, waiting: Operation, bob: Person) -> None:
    seen = page(client, bob, waiting.get_absolute_url())
    assert f'<a href="{address_of(waiting)}">brings 3 commits</a>' in seen
    seen = page(client, bob, address_of(waiting))
    assert "Brings 3 commits" in seen and "from 1.4.0 to" in seen
    assert seen.index("Change 13") < seen.index("Change 11") and "Change 10" not in seen


def test_it_says_the_same_when_something_else_runs_by_now(
    client: Client, waiting: Operation, estate: Estate, dana: Person
) -> None:
    estate.production.placements.update(version="1.6.0", digest=estate.releases["1.6.0"].digest)
    assert "Brings 3 commits" in page(client, dana, address_of(waiting))


def test_nothing_is_said_of_what_is_not_known(client: Client, waiting: Operation, bob: Person) -> None:
    ReleaseCommits.objects.all().delete()
    assert "<dt>commits</dt>" not in page(client, bob, waiting.get_absolute_url())
    assert "Nobody reported the commits of 1.5.0." in page(client, bob, address_of(waiting))


def test_several_releases_before_are_compared_with_nothing(client: Client, waiting: Operation, bob: Person) -> None:
    Deployment.objects.update(from_version="1.3.0 and 1.4.0")
    assert "<dt>commits</dt>" not in page(client, bob, waiting.get_absolute_url())
    assert "Nothing to compare" in page(client, bob, address_of(waiting))


def test_the_same_release_again_is_compared_with_nothing(
    client: Client, waiting: Operation, estate: Estate, bob: Person
) -> None:
    Deployment.objects.update(release=Release.objects.get(version="1.4.0"))
    assert "Nothing to compare" in page(client, bob, address_of(waiting))


def test_who_sees_it(client: Client, waiting: Operation, charlie: Person, dana: Person) -> None:
    assert client.get(address_of(waiting)).status_code == 302
    Grant.objects.create(person=charlie, scope="staging", role=Role.ADMIN)
    client.force_login(charlie)
    assert client.get(address_of(waiting)).status_code == 404
    assert "Change 13" in page(client, dana, address_of(waiting))
    assert client.post(address_of(waiting)).status_code == 405


def test_what_is_no_deployment_has_none(client: Client, waiting: Operation, dana: Person) -> None:
    Deployment.objects.all().delete()
    client.force_login(dana)
    assert client.get(address_of(waiting)).status_code == 404


def test_it_costs_little_however_many_there_are(client: Client, waiting: Operation, bob: Person) -> None:
    rows = [{**one, "title": "<" * 200, "author": "ß" * 100} for one in history(210, 201)]
    built(Release.objects.get(version="1.5.0"), 210)
    ReleaseCommits.objects.update(commits=rows)
    for address, words in ((waiting.get_absolute_url(), "brings 200 commits"), (address_of(waiting), "and 170 more")):
        page(client, bob, address)
        with CaptureQueriesContext(connection) as asked:
            seen = client.get(address).content.decode()
        assert words in seen
        assert len(asked) <= 20, "\n".join(one["sql"][:200] for one in asked.captured_queries)
        assert len(seen.encode()) < 100_000
