"""What is exported for Prometheus and Alertmanager is accepted by their own tools, and means the same."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from incidents.models import AlertRule
from incidents.rules.conditions import parse
from incidents.rules.durations import LONGEST, problem_with, seconds_of, written
from incidents.rules.export import FORMATS, prometheus
from incidents.rules.metrics import METRICS
from incidents.rules.promql import absence, expression
from tests.estate import Estate
from tests.incidents.rules_world import make_rule

pytestmark = pytest.mark.django_db
EVIL = "He said \"{{ $labels.x }}\"\n: - # '%s' é ☃ \\ |"


def needs(program: str) -> pytest.MarkDecorator:
    package = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}[program]
    reason = f"{program} is not installed (Debian's package {package})"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def guide(estate: Estate) -> list[AlertRule]:
    """The guide's three rules, and one that has everything in it."""
    return [
        make_rule(summary="More than one in twenty"),
        make_rule("p95_response_time > 500ms", slug="high-response-time", name="HighResponseTime", for_seconds=600,
                  severity="warning", notify=["slack"], environments=[]),
        make_rule("db_connections == 0", slug="database-connection-failure", name="DatabaseConnectionFailure",
                  for_seconds=60, notify=["pagerduty", "email"]),
        make_rule("not (error_rate > 5% or -instances_healthy + 2 >= 1) and db_connections / db_connections_max > 80%"
                  " or memory_used > 1.5GiB", slug="all", name="Everything", for_seconds=5400, severity="info",
                  summary=EVIL, notify=[], environments=["staging", "production"]),
    ]  # fmt: skip


def printed(capsys: pytest.CaptureFixture[str], form: str, *options: str) -> str:
    call_command("export_rules", "--format", form, *options)
    return capsys.readouterr().out


@needs("promtool")
def test_promtool_accepts_the_rules(guide: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(printed(capsys, "prometheus"))
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", file)


@needs("amtool")
def test_amtool_accepts_the_configuration(guide: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text(printed(capsys, "alertmanager"))
    run("amtool", "check-config", file)


def test_the_rules_as_data(guide: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rules = yaml.safe_load(printed(capsys, "prometheus"))["groups"][0]["rules"]
    by_name = {one["alert"]: one for one in rules}
    first = by_name["HighErrorRate"]
    assert first["for"] == "5m" and first["expr"].endswith(" > 0.05")
    assert 'http_requests_total{status=~"5..",environment="production"}' in first["expr"]
    assert first["labels"] == {"severity": "critical", "rule": "high-error-rate", "notify": "pagerduty,slack"}
    missing = by_name["HighErrorRateNoData"]
    assert missing["labels"]["environment"] == "production" and missing["labels"]["severity"] == "warning"
    assert "absent(" in missing["expr"]
    everywhere = [one["labels"]["environment"] for one in rules if one["alert"] == "HighResponseTimeNoData"]
    assert everywhere == ["staging", "production"]
    assert "environment=~" not in by_name["HighResponseTime"]["expr"]
    assert 'environment=~"staging|production"' in by_name["Everything"]["expr"]
    assert by_name["Everything"]["for"] == "1h30m"


def test_a_paused_rule_is_left_out(guide: Any, capsys: pytest.CaptureFixture[str]) -> None:
    AlertRule.objects.exclude(slug="all").update(paused=True)
    assert "HighErrorRate" not in printed(capsys, "prometheus")


def test_the_configuration_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "alertmanager", "--credentials", "/run/token", "--url", "https://ops.example.com")
    content = yaml.safe_load(text)
    hook = content["receivers"][0]["webhook_configs"][0]
    assert hook["url"] == "https://ops.example.com/intake/alertmanager" and hook["send_resolved"] is True
    assert hook["http_config"]["authorization"] == {"type": "Bearer", "credentials_file": "/run/token"}
    assert content["route"]["group_by"] == ["alertname", "environment"]
    routes = {one["matchers"][0]: one["group_wait"] for one in content["route"]["routes"]}
    assert routes['severity="critical"'] == "0s" and len(routes) == 3
    assert {one["receiver"] for one in content["route"]["routes"]} == {content["receivers"][0]["name"]}


def test_no_rules_is_a_file_too(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert yaml.safe_load(printed(capsys, "prometheus")) == {"groups": [{"name": "controlplane", "rules": []}]}


def test_a_rule_that_cannot_be_understood_is_an_error(guide: Any, capsys: pytest.CaptureFixture[str]) -> None:
    AlertRule.objects.filter(slug="all").update(condition="coffee > 3")
    with pytest.raises(CommandError, match=r"There is no metric “coffee”"):
        printed(capsys, "prometheus")


# --- What Prometheus makes of them --------------------------------------------------------------------

SERIES = [
    # Of 100 requests a minute, ten fail from the tenth minute on.
    ('http_requests_total{environment="production",status="200"}', "0+100x60"),
    ('http_requests_total{environment="production",status="500"}', "0+0x10 0+10x50"),
    # Staging has never failed at all, so there is no such series.
    ('http_requests_total{environment="staging",status="200"}', "0+100x60"),
    ('up{environment="production",instance="1"}', "1x20 0x40"),
    ('up{environment="production",instance="2"}', "1x60"),
    ('pg_stat_activity_count{environment="production",state="active"}', "5x30 0x30"),
    ('pg_settings_max_connections{environment="production"}', "100x60"),
]


def fires(tmp_path: Path, rules: list[AlertRule], *expected: tuple[str, str, list[dict[str, Any]]]) -> None:
    """promtool evaluates the rules over SERIES. expected: when, which alert, the labels it fires with."""
    (tmp_path / "rules.yml").write_text(prometheus(rules))
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in SERIES],
        "alert_rule_test": [
            {"eval_time": at, "alertname": name, "exp_alerts": [{"exp_labels": one} for one in labels]}
            for at, name, labels in expected
        ],
    }
    for case in test["alert_rule_test"]:
        for alert in case["exp_alerts"]:  # type: ignore[index]
            alert["exp_annotations"] = alert["exp_labels"].pop("annotations", {})
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": [test]}))
    run("promtool", "test", "rules", tmp_path / "test.yml")


def plain(text: str, where: str = "") -> str:
    return expression(parse(text), where)


def values(tmp_path: Path, *expected: tuple[str, str, list[str]]) -> None:
    """promtool evaluates expressions. expected: expression, when, the environments in which it holds."""
    cases = [
        {"expr": f"count by (environment) ({text})", "eval_time": at,
         "exp_samples": [{"labels": f'{{environment="{slug}"}}', "value": 1} for slug in slugs]}
        for text, at, slugs in expected
    ]  # fmt: skip
    series = [{"series": one, "values": numbers} for one, numbers in SERIES]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": [], "tests": [test]}))
    run("promtool", "test", "rules", tmp_path / "test.yml")


@needs("promtool")
class TestMeaning:
    def test_conditions_hold_where_and_when_they_should(self, tmp_path: Path) -> None:
        values(
            tmp_path,
            (plain("error_rate > 0.05"), "9m", []),
            (plain("error_rate > 0.05"), "20m", ["production"]),
            (plain("error_rate == 0"), "20m", ["staging"]),
            (plain("not error_rate > 5%"), "20m", ["staging"]),
            (plain("error_rate > 5%", 'environment="staging"'), "20m", []),
            (plain("instances_healthy < instances"), "19m", []),
            (plain("instances_healthy < instances"), "25m", ["production"]),
            (plain("instances_healthy == 1 and error_rate > 5%"), "25m", ["production"]),
            (plain("instances_healthy == 2 or error_rate > 5%"), "25m", ["production"]),
            (plain("not (instances_healthy == 2 or error_rate > 5%)"), "25m", []),
            (plain("-instances + 3 == 1"), "25m", ["production"]),
            (plain("db_connections / db_connections_max < 80%"), "5m", ["production"]),
            (plain("db_connections == 0"), "35m", ["production"]),
        )

    def test_missing_data(self, tmp_path: Path) -> None:
        def absent(text: str, slug: str) -> str:
            return absence(parse(text), slug).replace("absent(", "0 * absent(") + " == 0"

        values(
            tmp_path,
            (f"label_replace({absent('error_rate > 1', 'production')}, 'environment', 'x', '', '')", "20m", []),
            (f"label_replace({absent('db_connections > 1', 'staging')}, 'environment', 'x', '', '')", "20m", ["x"]),
        )

    def test_the_rule_fires_with_the_labels_of_our_own_alerts(self, guide: list[AlertRule], tmp_path: Path) -> None:
        labels = {"environment": "production", "severity": "critical", "rule": "high-error-rate",
                  "notify": "pagerduty,slack", "annotations": {
                      "summary": "More than one in twenty", "condition": "error_rate > 0.05",
                      "description": "the share of requests that failed is above 5\u00a0% in production: "
                                     "0.09090909090909091"}}  # fmt: skip
        fires(
            tmp_path, guide[:1], ("9m", "HighErrorRate", []), ("14m", "HighErrorRate", []),
            ("30m", "HighErrorRate", [labels]), ("30m", "HighErrorRateNoData", []),
        )  # fmt: skip

    @pytest.mark.parametrize("name", sorted(METRICS))
    def test_every_metric_is_an_expression(self, estate: Estate, name: str, tmp_path: Path) -> None:
        file = tmp_path / "rules.yml"
        file.write_text(prometheus([make_rule(f"{name} > 1"), make_rule(f"{name} > 1", slug="b", environments=[],
                                                                         name="B")]))  # fmt: skip
        run("promtool", "check", "rules", file)


def test_every_format_is_a_choice_of_the_command(estate: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    for form in FORMATS:
        assert printed(capsys, form).startswith("# ")
    with pytest.raises(CommandError):
        printed(capsys, "datadog")


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("90s", 90), ("1h30m", 5400), ("2d", 172_800), ("0s", 0)])
def test_durations(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(written(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "5", "m5", "5m5m", "-5m", "1.5h", "5 weeks", "٥m", "999999d"])
def test_no_durations(text: str) -> None:
    assert problem_with(text)
    assert not problem_with(written(LONGEST))
