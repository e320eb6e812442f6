"""The page of pipelines: who is trusted, what GitHub told us last, for whom, and at which price."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.models import Grant, Person, Role
from controlplane.audit.models import Entry
from controlplane.operations.keyset import SIZE
from deployments.models import CommitNotice, Pipeline, ReleaseReport, WebhookDelivery
from environments.models import Service
from tests.deployments.insight.test_pages import ran
from tests.deployments.pipelines.conftest import make_rule
from tests.estate import Estate, release

pytestmark = pytest.mark.django_db
URL, ISSUER = "/pipelines", "https://token.actions.githubusercontent.com"


@pytest.fixture
def rule(estate: Estate) -> Pipeline:
    """Takes webhooks."""
    return make_rule(ISSUER, webhook_secret="env:HOOK", repository_id="4711")


def deliver(rule: Pipeline, count: int, start: int = 0) -> None:
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(
            pipeline=rule, delivery=f"number-{number}", event="workflow_run", body_digest=f"{number:064}",
            answer={"event": "workflow_run", "said": f"CI of commit {number} passed", "releases": ["api 1.5.0"]},
        )
        for number in range(start, start + count)
    )  # fmt: skip


def page(client: Client, who: Person, address: str = URL) -> str:
    client.force_login(who)
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def test_a_stranger_is_sent_to_the_sign_in(client: Client) -> None:
    assert client.get(URL).status_code == 302


def test_it_says_who_is_trusted_and_what_they_may(client: Client, rule: Pipeline, dana: Person) -> None:
    seen = page(client, dana)
    for words in (ISSUER, rule.repository, "number 4711", "refs/heads/main, refs/tags/v*", "push, workflow_dispatch",
                  "report releases; ask for deployments to staging, production", "No delivery yet"):  # fmt: skip
        assert words in seen, words
    Pipeline.objects.update(paused=True)
    assert "nothing while it is paused" in page(client, dana)


def test_as_whom_it_acts_is_not_deleted(client: Client, rule: Pipeline, ada: Person) -> None:
    client.force_login(ada)
    said = {"reason": "tidying up", "confirm": rule.person.username}
    answer = client.post(f"/people/{rule.person.pk}/delete", said)
    assert answer.status_code == 409
    assert "belongs to the pipeline backend and cannot be deleted. Deactivate them" in answer.content.decode()
    assert Grant.objects.filter(person=rule.person).count() == 2
    assert not Entry.objects.filter(action="person.deleted").exists()


def test_without_one_it_teaches_the_first_step(client: Client, estate: Estate, dana: Person) -> None:
    assert "No pipeline is trusted yet" in page(client, dana)


def test_a_pipeline_without_webhooks_says_how_to_get_them(client: Client, estate: Estate, dana: Person) -> None:
    make_rule(ISSUER)
    seen = page(client, dana)
    assert "It takes no webhooks" in seen
    assert "Name a webhook_secret" in seen


def test_deliveries_come_page_by_page_the_newest_first(client: Client, rule: Pipeline, dana: Person) -> None:
    deliver(rule, SIZE + 2)
    first = page(client, dana)
    assert f"CI of commit {SIZE + 1} passed" in first
    assert "CI of commit 1 passed" not in first
    older = WebhookDelivery.objects.get(delivery="number-2").pk
    assert f"before={older}" in first
    second = page(client, dana, f"{URL}?before={older}")
    assert "CI of commit 1 passed" in second
    assert "CI of commit 2 passed" not in second


def test_what_could_not_be_told_is_said(client: Client, rule: Pipeline, estate: Estate, dana: Person) -> None:
    operation = ran(estate.production, estate.releases["1.5.0"])
    CommitNotice.objects.create(
        operation=operation, pipeline=rule, sha="a" * 40, environment="production", error="GitHub answers 503"
    )
    ReleaseReport.objects.create(
        release=estate.releases["1.5.0"],
        pipeline=rule,
        repository=rule.repository,
        run_id="1001",
        ref="refs/heads/main",
    )
    seen = page(client, dana)
    assert "not told yet; trying again: GitHub answers 503" in seen
    assert f"https://github.com/{rule.repository}/actions/runs/1001" in seen
    Grant.objects.filter(person=dana).update(scope="staging")
    assert "GitHub answers 503" not in page(client, dana)


def test_the_wrong_person_sees_nothing_of_it(
    client: Client, rule: Pipeline, charlie: Person, eve: Person, dana: Person
) -> None:
    deliver(rule, 1)
    for who in (charlie, eve):
        seen = page(client, who)
        assert rule.repository not in seen
        assert "CI of commit" not in seen
        assert client.get(f"{URL}?pipeline=backend").status_code == 404
    assert Entry.objects.filter(action="access.denied", target="see pipeline backend").count() == 2
    assert client.get(f"{URL}?pipeline=nothing").status_code == 404
    assert "CI of commit 0" in page(client, dana, f"{URL}?pipeline=backend")


def test_a_guest_sees_those_of_their_services_only(client: Client, rule: Pipeline, charlie: Person) -> None:
    Service.objects.create(slug="shop", name="Shop")
    make_rule(ISSUER, slug="shop", services=["shop"], repository="pitchey/shop", environments=[])
    Grant.objects.create(person=charlie, scope="staging", role=Role.VIEWER)
    seen = page(client, charlie)
    assert rule.repository in seen
    assert "pitchey/shop" not in seen


def test_a_guest_sees_no_release_of_another_service_that_the_pipeline_serves(
    client: Client, rule: Pipeline, estate: Estate, charlie: Person, dana: Person
) -> None:
    secret = Service.objects.create(slug="api-secret", name="Not for guests")
    Pipeline.objects.update(services=["api", secret.slug])
    Grant.objects.create(person=charlie, scope="staging", role=Role.VIEWER)
    for made in (estate.releases["1.5.0"], release(secret, "9.9.9")):
        ReleaseReport.objects.create(release=made, pipeline=rule, repository=rule.repository, run_id="1")
    deliver(rule, 1)
    answer = {"event": "workflow_run", "said": "CI passed", "releases": ["api 1.5.0", "api-secret 8.8.8"]}
    WebhookDelivery.objects.update(answer=answer)
    seen = page(client, charlie)
    assert seen.count("api 1.5.0") == 2, "in a delivery and as a report"
    assert "9.9.9" not in seen
    assert "8.8.8" not in seen
    Grant.objects.filter(person=dana).update(scope="*")
    everything = page(client, dana)
    assert "api-secret 9.9.9" in everything
    assert "api-secret 8.8.8" in everything


def test_the_price_is_the_same_however_much_came(client: Client, rule: Pipeline, estate: Estate, dana: Person) -> None:
    deliver(rule, 2)
    page(client, dana)
    with CaptureQueriesContext(connection) as few:
        client.get(URL)
    for number in range(5):
        other = make_rule(ISSUER, slug=f"other-{number}", webhook_secret="env:HOOK")
        made = release(estate.service, f"3.0.{number}")
        ReleaseReport.objects.create(release=made, pipeline=other, repository=other.repository, run_id="1")
    deliver(rule, 300, 10)
    with CaptureQueriesContext(connection) as many:
        answer = client.get(URL)
    assert len(many) <= len(few) <= 20
    assert len(answer.content) < 100_000


def test_the_newest_of_one_are_read_by_an_index(rule: Pipeline) -> None:
    other = make_rule(ISSUER, slug="loud")
    deliver(rule, 500)
    deliver(other, 10_000, 5000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE deployments_webhookdelivery")
    plan: Any = WebhookDelivery.objects.filter(pipeline=rule).order_by("-pk")[:SIZE].explain()
    assert "Seq Scan" not in plan, plan
    assert "Index Scan" in plan, plan
