"""Asking for a deployment: the plan comes first, words say what is missing, and nothing typed is lost."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.services import draft
from environments.models import EnvironmentLock
from tests.estate import Estate, paper

pytestmark = pytest.mark.django_db(transaction=True)
FORM = {"reason": "checkout fix, OPS-214", "confirm": "production"}


def url(estate: Estate, version: str = "1.5.0", environment: str = "production") -> str:
    return f"{reverse('deploy', args=[environment])}?release={estate.releases[version].pk}"


def ask(client: Client, estate: Estate, version: str = "1.5.0", **values: str) -> Any:
    chosen = estate.releases[version]
    form = {"release": str(chosen.pk), "plan_digest": draft(estate.production, chosen).plan.digest, **FORM, **values}
    return client.post(reverse("deploy", args=["production"]), form)


def text(answer: Any) -> str:
    return str(answer.content.decode())


class TestWho:
    @pytest.mark.parametrize("path", ["/environments/production/deploy", "/environments/production/rollback/api"])
    @pytest.mark.parametrize(("name", "status"), [("charlie", 404), ("eve", 404), ("dana", 403)])
    def test_only_operators_of_the_environment(  # noqa: PLR0917 (fixtures)
        self, client: Client, estate: Estate, request: pytest.FixtureRequest, name: str, status: int, path: str
    ) -> None:
        assert client.get(path).status_code == client.post(path).status_code == 302
        release = estate.releases["1.5.0"].pk
        client.force_login(request.getfixturevalue(name))
        assert client.get(path).status_code == status
        assert client.post(path, {"release": release, **FORM}).status_code == status
        assert not Operation.objects.exists()

    def test_nothing_of_elsewhere(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        assert client.get("/environments/nowhere/deploy").status_code == 404
        assert client.get("/environments/production/rollback/nothing").status_code == 404
        assert client.get("/environments/production/deploy?release=999999").status_code == 404


class TestThePlan:
    def test_it_shows_what_would_happen_and_changes_nothing(
        self, client: Client, estate: Estate, alice: Person, bob: Person
    ) -> None:
        client.force_login(alice)
        assert "1.5.0" in text(client.get(reverse("deploy", args=["production"])))
        said = text(client.get(url(estate)))
        assert all(f"swap production-{number}" in said for number in (1, 2, 3))
        assert "swap production-1 back" in said
        assert "has run in staging" in said
        assert "Bob can give it" in said
        assert not Operation.objects.exists()

    def test_a_failed_gate_says_what_would_help_and_offers_no_button(
        self, client: Client, estate: Estate, alice: Person
    ) -> None:
        client.force_login(alice)
        EnvironmentLock.objects.create(environment=estate.production, reason="drill", author_name="Carol")
        said = text(client.get(url(estate, "1.6.0")))
        assert "1.6.0 has not run in staging yet. Deploy it there first." in said
        assert "locked by Carol: drill" in said
        assert "Ask for the deployment" not in said
        refused = ask(client, estate, "1.6.0")
        assert refused.status_code == 422
        assert not Operation.objects.exists()

    def test_a_place_that_does_not_answer_is_said_in_words(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        digest = draft(estate.production, estate.releases["1.5.0"]).plan.digest
        paper.unreachable = "Nobody answers at paper:1. See that it runs."
        answer = client.get(url(estate))
        assert answer.status_code == 200
        assert "Nobody answers at paper:1." in text(answer)
        form = {"release": str(estate.releases["1.5.0"].pk), "plan_digest": digest, **FORM}
        assert client.post(reverse("deploy", args=["production"]), form).status_code == 409

    def test_what_runs_already_needs_nothing(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        assert "Nothing to do" in text(client.get(url(estate, "1.4.0")))
        assert ask(client, estate, "1.4.0").status_code == 422


class TestAsking:
    def test_it_waits_for_an_approval(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        answer = ask(client, estate)
        operation = Operation.objects.get()
        assert answer.headers["Location"] == operation.get_absolute_url()
        assert operation.state == State.AWAITING_APPROVAL
        assert operation.reason == FORM["reason"]
        said = text(client.get(operation.get_absolute_url()))
        assert "1.4.0" in said
        assert "Waits for 1 more approval" in said

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"reason": " "}, "This field is required."),
            ({"confirm": "staging"}, "This changes production: type its name."),
            ({"confirm": ""}, "This field is required."),
            ({"scheduled_for": "2001-01-01T10:00"}, "The planned start lies in the past."),
            ({"start_by": "2001-01-01T10:00"}, "It has to start by a time before"),
            ({"scheduled_for": "soon"}, "Enter a valid date/time."),
        ],
    )
    def test_what_is_wrong_is_said_and_the_rest_is_kept(
        self, client: Client, estate: Estate, alice: Person, values: dict[str, str], words: str
    ) -> None:
        client.force_login(alice)
        answer = ask(client, estate, **values)
        assert answer.status_code == 422
        assert words in text(answer)
        kept = {**FORM, **values}
        assert kept["reason"].strip() in text(answer)
        assert f'value="{kept["confirm"]}"' in text(answer) or not kept["confirm"]
        assert not Operation.objects.exists()

    def test_a_plan_that_moved_is_shown_again(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        answer = ask(client, estate, plan_digest="0" * 64)
        assert answer.status_code == 409
        assert "Read the plan again" in text(answer) or "Read it again" in text(answer)
        assert draft(estate.production, estate.releases["1.5.0"]).plan.digest in text(answer)

    def test_a_planned_start_is_kept(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        later = (now() + timedelta(days=1)).replace(second=0, microsecond=0)
        ask(client, estate, scheduled_for=f"{later:%Y-%m-%dT%H:%M}")
        assert Operation.objects.get().scheduled_for == later

    def test_a_time_by_which_it_has_to_start_is_kept(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        later = (now() + timedelta(hours=3)).replace(second=0, microsecond=0)
        ask(client, estate, start_by=f"{later:%Y-%m-%dT%H:%M}")
        assert Operation.objects.get().start_by == later

    def test_where_no_approval_is_needed_nobody_types_a_name(
        self, client: Client, estate: Estate, alice: Person
    ) -> None:
        client.force_login(alice)
        release = estate.releases["1.4.0"]
        page = text(client.get(url(estate, "1.4.0", "staging")))
        assert 'name="confirm"' not in page
        digest = draft(estate.staging, release).plan.digest
        form = {"release": release.pk, "plan_digest": digest, "reason": "back and forth"}
        assert client.post(reverse("deploy", args=["staging"]), form).status_code == 302
        assert Operation.objects.get().state == State.QUEUED


class TestRollback:
    def test_nothing_to_go_back_to(self, client: Client, estate: Estate, alice: Person) -> None:
        client.force_login(alice)
        assert "Nothing to go back to" in text(client.get(reverse("rollback", args=["production", "api"])))

    def test_it_goes_back_to_what_ran_before_and_keeps_its_reason(
        self, client: Client, estate: Estate, alice: Person, bob: Person
    ) -> None:
        client.force_login(alice)
        ask(client, estate)
        forward = Operation.objects.get()
        transitions.approve(forward.pk, Actor(bob), forward.plan_digest)
        engine.run(forward.pk, "w1")
        address = reverse("rollback", args=["production", "api"])
        page = text(client.get(address))
        assert "Roll back api to 1.4.0 in production" in page
        digest = draft(estate.production, estate.releases["1.4.0"], "rollback").plan.digest
        assert digest in page
        release = estate.releases["1.4.0"].pk
        form = {"release": release, "plan_digest": digest, "reason": "slow", "confirm": "Production"}
        client.post(address, form)
        back = Operation.objects.latest("pk")
        assert (back.deployment.kind, back.deployment.release.version, back.reason) == ("rollback", "1.4.0", "slow")
