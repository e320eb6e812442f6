"""The sections `alert_rules` and `database_probes` of the file: every mistake has its words, the same is nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.audit.models import Entry
from incidents.models import AlertRule, DatabaseProbe

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]
SAMPLE = Path(__file__).parents[2] / "controlplane/samples/pitchey.toml"
FILE = """
[environments.production]
driver = "local"

[alert_rules.high-error-rate]
condition = "error_rate > 0.05"
duration = "5m"
severity = "critical"
notify = ["pagerduty", "slack"]
environments = ["production"]

[database_probes]
production = "file:production/database-url"
"""
Apply = Callable[[str], str]


@pytest.fixture
def apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Apply:
    """Applies a text; returns what was said."""

    def apply(text: str) -> str:
        file = tmp_path / "company.toml"
        file.write_text(text)
        call_command("apply", str(file), "--yes")
        return capsys.readouterr().out

    return apply


def snapshot() -> list[Any]:
    return [list(model._default_manager.order_by("pk").values()) for model in (AlertRule, DatabaseProbe, Entry)]


def test_the_sample_declares_the_guides_three_rules(apply: Apply) -> None:
    apply(SAMPLE.read_text())
    found = {rule.name: rule for rule in AlertRule.objects.all()}
    guide = {
        "HighErrorRate": ("error_rate > 0.05", 300, "critical", ["pagerduty", "slack"]),
        "HighResponseTime": ("p95_response_time > 500ms", 600, "warning", ["slack"]),
        "DatabaseConnectionFailure": ("db_connections == 0", 60, "critical", ["pagerduty", "email"]),
    }
    for name, values in guide.items():
        rule = found[name]
        assert (rule.condition, rule.for_seconds, rule.severity, rule.notify) == values
        assert rule.environments == ["production"]
    probe = DatabaseProbe.objects.select_related("environment").get()
    assert (probe.environment.slug, probe.reference) == ("production", "file:production/database-url")


def test_it_makes_the_file_so(apply: Apply) -> None:
    said = apply(FILE)
    assert "+ alert_rules.high-error-rate" in said and "duration: 5m" in said and "+ database_probes.production" in said
    assert AlertRule.objects.get().name == "HighErrorRate"  # from its key
    entry = Entry.objects.get(action="alert_rule.declared")
    assert entry.scopes == ["production"] and entry.data["changes"]["condition"] == ["", "error_rate > 0.05"]


def test_the_same_again_is_nothing(apply: Apply) -> None:
    apply(FILE)
    before = snapshot()
    assert apply(FILE) == "Nothing to change.\n"
    assert snapshot() == before


def test_a_change_is_shown_and_made(apply: Apply) -> None:
    apply(FILE)
    AlertRule.objects.update(paused=True)
    said = apply(FILE.replace("0.05", "10%").replace('"5m"', '"90s"').replace("database-url", "other-url"))
    assert "condition: error_rate > 0.05 → error_rate > 10%" in said and "duration: 5m → 1m30s" in said
    assert "~ database_probes.production" in said
    rule = AlertRule.objects.get()
    assert (rule.condition, rule.for_seconds) == ("error_rate > 10%", 90)
    assert rule.paused  # a person's word
    assert DatabaseProbe.objects.get().reference == "file:production/other-url"


def test_what_is_not_in_the_file_is_left_alone(apply: Apply) -> None:
    apply(FILE)
    AlertRule.objects.update(slug="by-hand", name="ByHand")
    assert "alert rule by-hand" in apply(FILE)
    assert AlertRule.objects.count() == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("error_rate > 0.05", "eror_rate > 0.05", "There is no metric “eror_rate”. Did you mean error_rate?"),
        ("error_rate > 0.05", "error_rate > 0.05ms", "they cannot be compared"),
        ('"5m"', '"5 minutes"', "alert_rules.high-error-rate.duration: “5 minutes” is no duration; write 5m"),
        ('"critical"', '"urgent"', "“urgent” is not known; write one of: critical, info, warning"),
        ('"slack"', '"pigeon"', "alert_rules.high-error-rate.notify: “pigeon” is not known; there are: pagerduty"),
        ('["pagerduty", "slack"]', '["slack", 3]', "has to be a list of texts"),
        ('["pagerduty", "slack"]', '"slack"', "has to be a list, not text"),
        ('["production"]', '["nowhere"]', "environments: “nowhere” is not known; there are: production"),
        ("duration =", 'name = "High error rate"\nduration =', "is no name of an alert"),
        ("duration =", "for =", "for: is not a key of this table"),
        ('"file:production', '"production', "database_probes.production: "),
        ("production = ", "nowhere = ", "database_probes.nowhere: names no environment"),
    ],
)
def test_every_mistake_has_its_words(apply: Apply, old: str, new: str, words: str) -> None:
    assert FILE.count(old) >= 1
    with pytest.raises(CommandError) as caught:
        apply(FILE.replace(old, new))
    assert words in str(caught.value), caught.value
    assert not AlertRule.objects.exists() and not DatabaseProbe.objects.exists()


def test_a_wrong_condition_is_pointed_at(apply: Apply) -> None:
    with pytest.raises(CommandError) as caught:
        apply(FILE.replace("error_rate > 0.05", "error_rate > 5 pct"))
    lines = str(caught.value).splitlines()
    line = next(number for number, text in enumerate(lines) if text == "error_rate > 5 pct")
    assert lines[line + 1] == " " * 15 + "^"


def test_two_rules_of_one_name(apply: Apply) -> None:
    other = '[alert_rules.another]\nname = "HighErrorRate"\ncondition = "instances == 0"\nseverity = "info"\n'
    with pytest.raises(CommandError, match="there is another rule of the name HighErrorRate"):
        apply(f"{FILE}\n{other}")
