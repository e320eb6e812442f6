"""Alert rules for programs: how they stand, and the changes that an administrator's program may make."""

from typing import Any

import pytest

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from incidents.models import AlertRule
from tests.api.conftest import Calls, assert_problem
from tests.api.conftest import calls as calls  # noqa: PLC0414 (a fixture)
from tests.estate import Estate
from tests.incidents.rules_world import heard, look, make_rule

pytestmark = pytest.mark.django_db
ONE = "alert-rules/high-error-rate"


def test_how_they_stand(estate: Estate, dana: Person, calls: Calls) -> None:
    make_rule(for_seconds=0)
    make_rule("db_connections == 0", slug="database", name="Database")
    heard("production", failed=1, good=9)
    look()
    answer = calls(dana).get("alert-rules")
    assert answer.status_code == 200
    by_name = {one["rule"]: one for one in answer.json()}
    rule = by_name["high-error-rate"]
    assert (rule["condition"], rule["duration"], rule["notify"]) == ("error_rate > 0.05", "0s", ["pagerduty", "slack"])
    assert rule["meaning"] == "the share of requests that failed is above 5\u00a0%"
    [state] = rule["states"]
    assert (state["environment"], state["state"], state["value"]) == ("production", "firing", 0.1)
    assert state["firing_since"] and state["no_data_since"] is None
    [state] = by_name["database"]["states"]
    assert (state["state"], state["value"]) == ("missing", None)
    assert calls(dana).get(ONE).json() == rule


def test_an_administrator_changes_and_pauses_it(estate: Estate, ada: Person, calls: Calls) -> None:
    make_rule()
    program = calls(ada)
    answer = program.post(f"{ONE}/changes", {"condition": "error_rate>10%", "duration": "90s", "reason": "calmer"})
    assert answer.status_code == 200, answer.content
    assert (answer.json()["condition"], answer.json()["duration"]) == ("error_rate > 10%", "1m30s")
    rule = AlertRule.objects.get()
    assert (rule.for_seconds, rule.severity, rule.environments) == (90, "critical", ["production"])
    assert program.post(f"{ONE}/pause", {"reason": "a test"}).json()["paused"] is True
    assert_problem(program.post(f"{ONE}/pause", {"reason": "a test"}), 409, "Somebody was first")
    assert program.post(f"{ONE}/resume", {"reason": "over"}).json()["paused"] is False
    assert [one.action for one in Entry.objects.filter(action__startswith="alert_rule").order_by("pk")] == [
        "alert_rule.changed", "alert_rule.paused", "alert_rule.resumed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"condition": "error_rate > 5 pct"}, "Character 16: There is no unit “pct”"),
        ({"duration": "soon"}, "is no duration"),
        ({"notify": ["pigeon"]}, "notify"),
        ({"severity": "urgent"}, "severity"),
        ({"environments": ["nowhere"]}, "environments"),
        ({}, "Nothing is different."),
    ],
)
def test_what_is_wrong_is_said(estate: Estate, ada: Person, calls: Calls, body: dict[str, Any], words: str) -> None:
    make_rule()
    assert_problem(calls(ada).post(f"{ONE}/changes", {**body, "reason": "x"}), 422, words)
    assert AlertRule.objects.get().condition == "error_rate > 0.05"


def test_one_key_is_one_effect(estate: Estate, ada: Person, calls: Calls) -> None:
    make_rule()
    program = calls(ada)
    first, second = (program.post(f"{ONE}/pause", {"reason": "x"}, "key-1") for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content) == (200, second.content)
