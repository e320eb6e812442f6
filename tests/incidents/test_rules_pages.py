"""The pages of alert rules: how each stands, what it says in words, and who may change it."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from environments.models import Environment, Placement
from incidents.models import Alert, AlertRule, RuleState
from tests.estate import Estate
from tests.incidents.rules_world import heard, later, look, make_rule

pytestmark = pytest.mark.django_db
FORM = {
    "condition": "error_rate > 0.05", "duration": "5m", "severity": "critical", "notify": ["pagerduty", "slack"],
    "environments": ["production"], "summary": "", "reason": "too many pages at night",
}  # fmt: skip


def text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.status_code
    return str(answer.content.decode())


def get(client: Client, person: Person, path: str, status: int = 200) -> str:
    client.force_login(person)
    return text(client.get(path), status)


def change(client: Client, person: Person, **values: Any) -> Any:
    client.force_login(person)
    return client.post("/alert-rules/high-error-rate/change", {**FORM, **values})


class TestTheList:
    def test_nothing_yet_says_what_to_do(self, client: Client, dana: Person) -> None:
        assert "No alert rules yet" in get(client, dana, "/alert-rules")

    def test_value_bound_and_words(self, client: Client, dana: Person, estate: Estate) -> None:
        make_rule()
        heard("production", failed=1, good=9)
        look()
        page = get(client, dana, "/alert-rules")
        assert "pending" in page and "<b>10\u00a0%</b>" in page and "bound 5\u00a0%" in page
        assert "fires in" in page and "PagerDuty, Slack" in page and "for 5\u00a0m" in page
        assert "error_rate is 10\u00a0%" in page

    def test_missing_and_firing_are_said(self, client: Client, dana: Person, estate: Estate) -> None:
        make_rule(for_seconds=0)
        look()
        assert "no data" in get(client, dana, "/alert-rules")
        heard("production", failed=1)
        look()
        assert 'class="state bad">firing' in get(client, dana, "/alert-rules")
        RuleState.objects.update(state=RuleState.State.MISSING)
        assert "firing, no data" in get(client, dana, "/alert-rules")

    def test_those_that_fire_come_first(self, client: Client, dana: Person, estate: Estate) -> None:
        make_rule("instances == 3", slug="a", name="Aaa", for_seconds=9999)
        make_rule("instances == 3", slug="z", name="Zzz", for_seconds=0)
        look()
        page = get(client, dana, "/alert-rules")
        assert page.index("Zzz") < page.index("Aaa")

    def test_each_sees_what_they_may(self, client: Client, eve: Person, charlie: Person, estate: Estate) -> None:
        development = Environment.objects.create(slug="development", name="Development", driver="paper")
        Placement.objects.create(environment=development, service=estate.service, version="1.4.0")
        make_rule()
        make_rule(slug="everywhere", name="Everywhere", environments=[])
        look()
        page = get(client, eve, "/alert-rules")
        assert "Everywhere" in page and "Development" in page
        assert "HighErrorRate" not in page and "Production" not in page
        assert "Everywhere" not in get(client, charlie, "/alert-rules")
        assert "Production" not in get(client, eve, "/alert-rules/everywhere")
        for somebody, slug in ((eve, "high-error-rate"), (charlie, "high-error-rate")):
            get(client, somebody, f"/alert-rules/{slug}", 404)
        client.force_login(charlie)
        assert client.get("/alert-rules/everywhere").status_code in (403, 404)

    def test_the_price_does_not_grow(
        self, client: Client, dana: Person, estate: Estate, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(20):
            make_rule(slug=f"rule-{number}", name=f"Rule{number}", environments=[])
        look()
        RuleState.objects.update(recent=[0.1] * 60)
        client.force_login(dana)
        with django_assert_max_num_queries(20):
            page = client.get("/alert-rules")
        assert len(page.content) < 100_000


class TestOne:
    def test_the_condition_in_words(self, client: Client, dana: Person, estate: Estate) -> None:
        make_rule("p95_response_time>500 ms or not instances_healthy>=2")
        look()
        page = get(client, dana, "/alert-rules/high-error-rate")
        assert "<code>p95_response_time &gt; 500ms or not instances_healthy &gt;= 2</code>" in page
        assert "the time within which 95 of 100 requests are answered is above 500\u00a0ms" in page
        assert "histogram_quantile(0.95" in page
        assert "Change it" not in page

    def test_one_that_is_not_understood_any_more(self, client: Client, ada: Person, estate: Estate) -> None:
        make_rule("coffee > 3")
        look()
        page = get(client, ada, "/alert-rules/high-error-rate")
        assert "There is no metric “coffee”" in page
        assert "not understood" in get(client, ada, "/alert-rules")
        client.force_login(ada)
        assert "There is no metric “coffee”" in text(client.get("/alert-rules/export/prometheus"), 422)

    def test_there_is_none(self, client: Client, ada: Person) -> None:
        get(client, ada, "/alert-rules/nothing", 404)


class TestChanging:
    def test_an_administrator_changes_it(self, client: Client, ada: Person, estate: Estate) -> None:
        make_rule()
        answer = change(client, ada, condition="error_rate>10 %", duration="90s", notify=["slack"])
        assert answer.status_code == 302 and answer.url == "/alert-rules/high-error-rate"
        rule = AlertRule.objects.get()
        assert (rule.condition, rule.for_seconds, rule.notify) == ("error_rate > 10%", 90, ["slack"])
        entry = Entry.objects.get(action="alert_rule.changed")
        assert (entry.actor, entry.reason, entry.scopes) == ("Ada", "too many pages at night", ["production"])
        assert entry.data["changes"]["condition"] == ["error_rate > 0.05", "error_rate > 10%"]
        assert "severity" not in entry.data["changes"]

    def test_a_wrong_condition_is_shown_with_a_caret(self, client: Client, ada: Person, estate: Estate) -> None:
        make_rule()
        page = text(change(client, ada, condition="error_rate > 5 pct"), 422)
        assert f"error_rate &gt; 5 pct\n{' ' * 15}^</pre>" in page
        assert "Character 16: There is no unit “pct”." in page
        assert 'value="error_rate &gt; 5 pct"' in page  # what was typed is kept
        assert AlertRule.objects.get().condition == "error_rate > 0.05"

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"duration": "soon"}, "“soon” is no duration"),
            ({"severity": "urgent"}, "Select a valid choice"),
            ({"notify": ["pigeon"]}, "Select a valid choice"),
            ({"environments": ["nowhere"]}, "Select a valid choice"),
            ({"reason": ""}, "This field is required"),
            ({}, "Nothing is different."),
        ],
    )
    def test_what_is_wrong_is_said(
        self, client: Client, ada: Person, estate: Estate, values: dict[str, Any], words: str
    ) -> None:
        make_rule()
        assert words in text(change(client, ada, **values), 422)
        assert not Entry.objects.filter(action="alert_rule.changed").exists()

    @pytest.mark.parametrize("who", ["alice", "bob", "dana", "charlie", "eve"])
    def test_nobody_else(self, client: Client, estate: Estate, who: str, request: pytest.FixtureRequest) -> None:
        make_rule()
        person = request.getfixturevalue(who)
        assert change(client, person, condition="error_rate > 1").status_code in (403, 404)
        answer = client.post("/alert-rules/high-error-rate/pause", {"what": "pause", "reason": "x"})
        assert answer.status_code in (403, 404)
        rule = AlertRule.objects.get()
        assert (rule.condition, rule.paused) == ("error_rate > 0.05", False)

    def test_who_administers_one_environment_cannot_take_another(
        self, client: Client, dana: Person, estate: Estate
    ) -> None:
        dana.grants.create(scope="production", role="admin")
        make_rule()
        assert change(client, dana, environments=["staging"]).status_code == 403
        assert change(client, dana, environments=[]).status_code == 403
        assert change(client, dana, duration="6m").status_code == 302

    def test_only_by_post(self, client: Client, ada: Person, estate: Estate) -> None:
        make_rule()
        get(client, ada, "/alert-rules/high-error-rate/change", 405)


class TestPausing:
    def pause(self, client: Client, what: str, reason: str = "a test of load") -> Any:
        return client.post("/alert-rules/high-error-rate/pause", {"what": what, "reason": reason})

    def test_it_says_nothing_until_it_goes_on(self, client: Client, ada: Person, estate: Estate) -> None:
        make_rule()
        heard("production", failed=3)
        look()
        later(301)
        look()
        client.force_login(ada)
        assert self.pause(client, "pause").status_code == 302
        assert Alert.objects.get().state == Alert.State.RESOLVED
        assert "It is not evaluated" in get(client, ada, "/alert-rules/high-error-rate")
        assert not RuleState.objects.exists()
        assert "Somebody was first" in text(self.pause(client, "pause"), 409)
        assert "Say why" in text(self.pause(client, "resume", ""), 422)
        assert self.pause(client, "resume").status_code == 302
        assert look().state == RuleState.State.PENDING
        assert [one.action for one in Entry.objects.filter(action__startswith="alert_rule").order_by("pk")] == [
            "alert_rule.paused", "alert_rule.resumed",
        ]  # fmt: skip


class TestExport:
    @pytest.mark.parametrize("form", ["prometheus", "alertmanager"])
    def test_a_file_to_download(self, client: Client, dana: Person, estate: Estate, form: str) -> None:
        make_rule()
        client.force_login(dana)
        answer = client.get(f"/alert-rules/export/{form}")
        assert answer["Content-Type"] == "application/yaml" and "attachment" in answer["Content-Disposition"]
        assert ("HighErrorRate" if form == "prometheus" else "webhook_configs") in text(answer)

    def test_not_for_who_does_not_see_everything(self, client: Client, eve: Person, dana: Person) -> None:
        get(client, eve, "/alert-rules/export/prometheus", 403)
        get(client, dana, "/alert-rules/export/datadog", 404)
