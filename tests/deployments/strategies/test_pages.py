"""The page of a canary, and choosing a strategy on the page that asks for a deployment."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State, StepState
from deployments.models import CanarySample, CanaryVerdict, Deployment
from deployments.services import draft
from deployments.strategies.chart import POINTS, chart_of
from tests.deployments.strategies.conftest import Production

pytestmark = pytest.mark.django_db(transaction=True)
Traffic = Callable[..., None]


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def sample(operation: Operation, errors: int = 1, requests: int = 100, ms: float | None = 21.0) -> CanarySample:
    return CanarySample.objects.create(
        operation=operation, canary_requests=requests, canary_errors=errors, canary_ms=ms,
        baseline_requests=900, baseline_errors=9, baseline_ms=ms and 20.0,
    )  # fmt: skip


def watched(production: Production, samples: int = 5, **values: Any) -> Operation:
    """One whose canary is being compared."""
    operation = production.ask()
    Operation.objects.filter(pk=operation.pk).update(state=State.RUNNING)
    Step.objects.filter(operation=operation, key="judge").update(
        state=StepState.RUNNING, deadline="2099-01-01T00:00:00Z"
    )
    sample(operation, 0, 0, None)
    for _ in range(samples):
        sample(operation, **values)
    return operation


def url(operation: Operation) -> str:
    return reverse("canary", args=[operation.pk])


class TestWho:
    @pytest.mark.parametrize(("name", "status"), [("charlie", 404), ("eve", 404), ("dana", 200)])
    def test_those_who_may_see_the_operation(
        self, client: Client, production: Production, request: pytest.FixtureRequest, name: str, status: int
    ) -> None:
        operation = watched(production)
        assert client.get(url(operation)).status_code == 302
        client.force_login(request.getfixturevalue(name))
        assert client.get(url(operation)).status_code == status

    def test_what_is_no_canary_has_no_such_page(self, client: Client, production: Production, dana: Person) -> None:
        operation = production.ask(strategy="rolling")
        client.force_login(dana)
        assert client.get(url(operation)).status_code == 404
        assert client.get(reverse("canary", args=[999_999])).status_code == 404
        assert url(operation) not in text(client.get(operation.get_absolute_url()))


class TestWhatItSays:
    def test_before_it_begins(self, client: Client, production: Production, dana: Person) -> None:
        client.force_login(dana)
        said = text(client.get(url(production.ask())))
        assert "The canary does not have the release yet; then it is compared with the others." in said
        assert "No numbers yet" in said

    def test_while_it_is_watched(self, client: Client, production: Production, dana: Person) -> None:
        operation = watched(production)
        client.force_login(dana)
        said = text(client.get(url(operation)))
        assert "<b>Being compared.</b> No verdict yet, after 500 of 500" not in said
        assert "production-2, production-3" in said
        assert "Back if 2 points more fail, or if answers come more than 50 % later" in said
        assert said.count('class="ours"') == said.count('<path class="others"') == 2
        assert "1 of 100" in said
        assert 'hx-trigger="news-canary from:body, news-operations from:body"' in said

    def test_the_verdict_in_words(self, client: Client, production: Production, traffic: Traffic, dana: Person) -> None:
        traffic(bad=20)
        operation = production.deploy()
        client.force_login(dana)
        said = text(client.get(url(operation)))
        assert "<b>Worse.</b> The canary fails more than the others: canary 20 % of" in said
        assert "<b>100 %</b>" in said
        about = text(client.get(operation.get_absolute_url()))
        assert f'<a href="{url(operation)}">worse</a>' in about

    def test_a_good_one(self, client: Client, production: Production, traffic: Traffic, dana: Person) -> None:
        operation = production.deploy()
        client.force_login(dana)
        assert "<b>No worse.</b> The canary is no worse than the others" in text(client.get(url(operation)))

    def test_where_nothing_was_compared(self, client: Client, production: Production, dana: Person) -> None:
        operation = production.ask(strategy="rolling")
        Deployment.objects.filter(operation=operation).update(strategy="canary")
        client.force_login(dana)
        assert "Nothing to compare" in text(client.get(url(operation)))

    def test_it_stays_small(self, client: Client, production: Production, dana: Person) -> None:
        operation = watched(production, samples=400, ms=21.5)
        CanaryVerdict.objects.create(operation=operation, outcome="none", words="late", goes_on=False)
        client.force_login(dana)
        with CaptureQueriesContext(connection, ) as asked:  # fmt: skip
            answer = client.get(url(operation))
        assert len(asked) <= 20
        assert len(answer.content) < 100_000


class TestTheChart:
    def test_so_many_points_that_it_can_be_read(self, production: Production) -> None:
        operation = watched(production, samples=500)
        chart = chart_of(list(CanarySample.objects.filter(operation=operation)))
        assert chart is not None
        assert len(chart.points) <= POINTS
        assert sum(point.canary.requests for point in chart.points) == 50_000
        assert chart.failed.canary.count("M") == 1

    @pytest.mark.parametrize(("looks", "pieces"), [(1, 1), (4, 2)])
    def test_a_side_that_is_without_requests_for_long_is_a_gap(
        self, production: Production, looks: int, pieces: int
    ) -> None:
        """Not that of a single look: a source has not news of both sides at each of them."""
        operation = watched(production, samples=2)
        for _ in range(looks):
            sample(operation, 0, 0)
        sample(operation)
        chart = chart_of(list(CanarySample.objects.filter(operation=operation)))
        assert chart is not None
        assert (chart.failed.canary.count("M"), chart.failed.baseline.count("M")) == (pieces, 1)

    def test_without_latency_there_is_one_chart(self, production: Production) -> None:
        operation = watched(production, ms=None)
        chart = chart_of(list(CanarySample.objects.filter(operation=operation)))
        assert chart is not None
        assert chart.answered is None


class TestChoosing:
    def page(self, client: Client, production: Production, strategy: str = "") -> str:
        release = production.estate.releases["1.5.0"].pk
        return text(client.get(f"{reverse('deploy', args=['production'])}?release={release}&strategy={strategy}"))

    def test_the_usual_one_comes_first_and_another_is_a_click_away(
        self, client: Client, production: Production, alice: Person
    ) -> None:
        client.force_login(alice)
        said = self.page(client, production)
        assert 'aria-current="true">canary</a>' in said
        assert "compare production-1 with the others" in said
        assert 'name="strategy" value="canary"' in said
        rolling = self.page(client, production, "rolling")
        assert 'aria-current="true">rolling</a>' in rolling
        assert "compare production-1" not in rolling

    def test_what_was_chosen_is_asked_for(self, client: Client, production: Production, alice: Person) -> None:
        client.force_login(alice)
        chosen = production.estate.releases["1.5.0"]
        made = draft(production.estate.production, chosen, strategy="rolling")
        form = {"release": chosen.pk, "plan_digest": made.plan.digest, "strategy": "rolling", "reason": "now"}
        assert client.post(reverse("deploy", args=["production"]), form).status_code == 302
        assert Deployment.objects.get().strategy == "rolling"

    def test_one_that_is_not_allowed_is_refused_in_words(
        self, client: Client, production: Production, alice: Person
    ) -> None:
        client.force_login(alice)
        said = self.page(client, production, "blue_green")
        assert "“blue/green” may not be chosen here: write canary or rolling, or nothing." in said
        chosen = production.estate.releases["1.5.0"]
        form = {"release": chosen.pk, "plan_digest": "x", "strategy": "blue_green", "reason": "now"}
        assert client.post(reverse("deploy", args=["production"]), form).status_code == 422
        assert not Operation.objects.exists()
