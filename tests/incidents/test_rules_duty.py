"""The clock evaluates each rule in each environment, and what it finds becomes alerts of the control plane's own."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from controlplane.clock.registry import duties
from environments.models import Environment, Placement
from incidents.models import Alert, AlertRule, RuleState
from incidents.rules import changing, duty, sources
from incidents.rules.evaluation import Reading
from tests.estate import Estate
from tests.incidents.rules_world import forget, heard, later, look, make_rule

pytestmark = pytest.mark.django_db
State = RuleState.State


def where() -> list[str]:
    return list(RuleState.objects.order_by("environment__position").values_list("environment__slug", flat=True))


def test_the_clock_knows_these_duties() -> None:
    every = {one.name: one.every for one in duties()}
    assert every["evaluate rules"] == 1.0 and every["probe databases"] == 1.0
    assert every["fit rules"] == 5.0 and "forget database samples" in every


class TestRows:
    def test_a_rule_watches_what_it_names(self, estate: Estate) -> None:
        make_rule()
        assert duty.fit() == 1 and where() == ["production"]
        assert duty.fit() == 0

    def test_or_else_all_where_something_was_ever_deployed(self, estate: Estate) -> None:
        make_rule(environments=[])
        cold = Environment.objects.create(slug="dr", name="DR", driver="paper", position=3)
        Placement.objects.create(environment=cold, service=estate.service, instances=[{"name": "dr-1"}])
        duty.fit()
        assert where() == ["staging", "production"]
        Placement.objects.filter(environment=cold).update(version="1.4.0")
        duty.fit()
        assert where() == ["staging", "production", "dr"]

    def test_what_is_no_longer_watched_goes_and_its_alert_ends(self, estate: Estate) -> None:
        rule = make_rule(for_seconds=0)
        heard("production", failed=5)
        assert look().state == State.FIRING
        AlertRule.objects.filter(pk=rule.pk).update(environments=["staging"])
        duty.fit()
        assert where() == ["staging"]
        assert Alert.objects.get(name="HighErrorRate").state == Alert.State.RESOLVED

    def test_a_paused_rule_has_none(self, estate: Estate) -> None:
        make_rule(paused=True)
        assert duty.fit() == 0 and duty.evaluate_due() == 0


class TestTheGuidesFirstRule:
    def test_it_fires_after_five_minutes_and_ends_when_it_is_fine(self, estate: Estate) -> None:
        make_rule(summary="Too many errors")
        heard("production", failed=1, good=9)
        row = look()
        assert (row.state, row.value, row.words) == (
            State.PENDING, 0.1, "error_rate is 10\u00a0%, the bound is 5\u00a0%",
        )  # fmt: skip
        assert not Alert.objects.exists()
        later(299)
        assert look().state == State.PENDING
        later(2)
        assert look().state == State.FIRING
        alert = Alert.objects.select_related("environment").get()
        assert alert.environment == estate.production
        assert (alert.name, alert.severity, alert.state, alert.summary) == (
            "HighErrorRate", "critical", "firing", "Too many errors",
        )  # fmt: skip
        labels = {"alertname": "HighErrorRate", "severity": "critical", "environment": "production",
                  "rule": "high-error-rate", "notify": "pagerduty,slack"}  # fmt: skip
        assert alert.labels == labels
        assert alert.annotations["condition"] == "error_rate > 0.05"
        assert "the share of requests that failed is above 5" in alert.annotations["description"]
        assert alert.url == "/alert-rules/high-error-rate"
        heard("production", good=200)
        assert look().state == State.FINE
        alert.refresh_from_db()
        assert alert.state == Alert.State.RESOLVED and alert.ended_at is not None

    def test_it_is_said_once(self, estate: Estate) -> None:
        make_rule(for_seconds=0)
        heard("production", failed=5)
        for _ in range(3):
            look()
        assert Alert.objects.get().count == 1

    def test_a_new_firing_is_the_same_alert(self, estate: Estate) -> None:
        make_rule(for_seconds=0)
        for failed, good in ((5, 0), (0, 500), (500, 0)):
            heard("production", failed=failed, good=good)
            look()
        assert Alert.objects.get().state == Alert.State.FIRING


class TestMissing:
    def test_no_data_is_not_fine(self, estate: Estate) -> None:
        make_rule()
        row = look()
        assert (row.state, row.value, row.words) == (State.MISSING, None, "error_rate: no probe within 100 s")
        assert not Alert.objects.exists()

    def test_for_longer_than_its_duration_it_is_an_alert(self, estate: Estate) -> None:
        make_rule()
        look()
        later(301)
        row = look()
        assert (row.state, row.nodata_since is not None) == (State.MISSING, True)
        alert = Alert.objects.get()
        assert (alert.name, alert.severity, alert.state) == ("HighErrorRateNoData", "warning", "firing")
        assert alert.labels["rule"] == "high-error-rate" and "no probe within 100 s" in alert.summary
        heard("production", good=5)
        assert look().state == State.FINE
        assert Alert.objects.get().state == Alert.State.RESOLVED

    def test_it_ends_no_alert(self, estate: Estate) -> None:
        make_rule(for_seconds=0)
        heard("production", failed=5)
        look()
        forget()
        row = look()
        assert (row.state, row.told_since is not None) == (State.MISSING, True)
        assert Alert.objects.get(name="HighErrorRate").state == Alert.State.FIRING

    def test_a_condition_that_is_not_understood_any_more(self, estate: Estate) -> None:
        make_rule(condition="coffee > 3", for_seconds=0)
        row = look()
        assert row.state == State.MISSING and "There is no metric “coffee”" in row.words


class TestManyClocks:
    def test_each_row_is_claimed_once(self, estate: Estate) -> None:
        make_rule(environments=[])
        duty.fit()
        assert (duty.evaluate_due(), duty.evaluate_due()) == (2, 0)
        soon = RuleState.objects.filter(due_at__gt=Now(), due_at__lt=Now() + timedelta(seconds=15))
        assert soon.count() == 2

    def test_who_comes_back_late_writes_nothing(self, estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
        make_rule(for_seconds=0)

        def slow(wanted: Collection[str], environments: Sequence[str]) -> dict[str, dict[str, Reading]]:
            RuleState.objects.update(due_at=Now())  # another clock has claimed it meanwhile
            return {"production": {"error_rate": Reading(1.0)}}

        monkeypatch.setattr(sources, "read", slow)
        assert look().evaluated_at is None and not Alert.objects.exists()

    def test_what_cannot_be_said_has_not_turned(self, estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
        make_rule(for_seconds=0)
        heard("production", failed=5)

        def broken(said: object) -> int:
            raise ValueError("no")

        with monkeypatch.context() as patch:
            patch.setattr(duty, "say", broken)
            with pytest.raises(ValueError, match="no"):
                look()
        assert RuleState.objects.get().state == State.MISSING
        assert look().state == State.FIRING


@pytest.mark.django_db(transaction=True)
def test_metrics_are_read_outside_of_a_transaction(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    make_rule()
    seen: list[bool] = []

    def read(*_: Any) -> dict[str, dict[str, Reading]]:
        seen.append(connection.in_atomic_block)
        return {}

    monkeypatch.setattr(sources, "read", read)
    look()
    assert seen == [False]


class TestChanged:
    def test_another_severity_is_said_anew_at_once(self, estate: Estate) -> None:
        make_rule(for_seconds=300)
        heard("production", failed=5)
        look()
        later(301)
        look()
        changing.apply("high-error-rate", {"severity": "warning", "name": "ManyErrors"})
        assert Alert.objects.get().state == Alert.State.RESOLVED
        assert look().state == State.FIRING
        alert = Alert.objects.get()
        assert (alert.name, alert.severity, alert.state) == ("ManyErrors", "warning", "firing")

    def test_another_bound_decides_with_the_next_look(self, estate: Estate) -> None:
        make_rule(for_seconds=0)
        heard("production", failed=1, good=9)
        assert look().state == State.FIRING
        changing.apply("high-error-rate", {"condition": "error_rate > 50%"})
        assert Alert.objects.get().state == Alert.State.FIRING
        assert look().state == State.FINE
        assert Alert.objects.get().state == Alert.State.RESOLVED
