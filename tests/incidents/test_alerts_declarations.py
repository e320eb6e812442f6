"""Sources and rules come from the configuration file; of a token only its digest is stored."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command

from incidents.intake.gate import digest_of
from incidents.models import AlertSource, IncidentRule

pytestmark = pytest.mark.django_db

FILE = """
[alert_sources.prometheus]
kind = "alertmanager"
token = "file:alerts/token"
signing_secret = "file:alerts/signing"

[incident_rules.first]
matchers = 'severity="critical"'
group_by = ["alertname"]
severity = "P1"

[incident_rules.second]
matchers = ''
severity = "none"
"""


@pytest.fixture
def apply(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def run(text: str = FILE, *options: str) -> str:
        path = tmp_path / "controlplane.toml"
        path.write_text(text)
        call_command("apply", str(path), "--yes", *options)
        return capsys.readouterr().out

    return run


def test_sources_and_rules_are_made_and_the_second_time_is_nothing(apply, data_dir: Path) -> None:  # type: ignore[no-untyped-def]
    said = apply()
    token = (data_dir / "secrets/alerts/token").read_text()
    source = AlertSource.objects.get(slug="prometheus")
    assert source.token_digest == digest_of(token)
    assert token not in said and digest_of(token) not in said
    assert (data_dir / "secrets/alerts/token").stat().st_mode & 0o777 == 0o600
    rules = list(IncidentRule.objects.values_list("slug", "severity", "position"))
    assert rules == [("first", "P1", 1), ("second", "", 2)]
    assert "+" not in apply().split("\n")[0] and "alert_sources" not in apply()


def test_another_token_is_taken_over(apply, data_dir: Path) -> None:  # type: ignore[no-untyped-def]
    apply()
    (data_dir / "secrets/alerts/token").write_text("another-token-of-more-than-eight")
    assert "~ alert_sources.prometheus" in apply()
    assert AlertSource.objects.get().token_digest == digest_of("another-token-of-more-than-eight")


def test_a_token_that_cannot_be_read_breaks_nothing(apply) -> None:  # type: ignore[no-untyped-def]
    text = FILE.replace("file:alerts/token", "env:NO_SUCH_VARIABLE")
    assert "none that can be read" in apply(text)
    assert AlertSource.objects.get().token_digest is None
    assert "alert_sources" not in apply(text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('kind = "alertmanager"', 'kind = "own"', "is not known"),
        ("[alert_sources.prometheus]", "[alert_sources.control-plane]", "the control plane's own name"),
        ("'severity=\"critical\"'", "'severity is critical'", "At character 1"),
        ("'severity=\"critical\"'", "'severity=~\"(a+)+\"'", "may take too long"),
        ("'severity=\"critical\"'", "'severity=~\"(\"'", "is no regular expression"),
        ('severity = "P1"', 'severity = "P5"', "is not known"),
        ('token = "file:alerts/token"', 'token = "secret123"', "is no secret reference"),
    ],
)
def test_wrong_words_are_said_with_their_place(
    apply: Callable[[str], str], capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    assert old in FILE
    with pytest.raises(BaseException) as error:
        apply(FILE.replace(old, new, 1))
    assert words in str(error.value) + capsys.readouterr().err
    assert not AlertSource.objects.exists()


def test_the_sample_of_the_guides_company_can_be_applied_twice(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("apply", "controlplane/samples/pitchey.toml", "--yes")
    assert AlertSource.objects.exclude(token_digest=None).count() == 3
    capsys.readouterr()
    call_command("apply", "controlplane/samples/pitchey.toml", "--yes")
    out = capsys.readouterr().out
    assert "alert_sources" not in out and "incident_rules" not in out
