"""Policies, freezes and groups in the configuration file: every mistake by its key, and twice the same is nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from controlplane.audit.models import Entry
from deployments.models import ApproverGroup, FreezeWindow, Policy
from tests.deployments.gates.test_evidence import KEY, pem

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "estate")]
Apply = Callable[[str], str]

FILE = f'''
[people.bob]
name = "Bob"
roles = {{ "*" = "approver" }}

[approver_groups.sre]
name = "SRE"
people = ["bob"]

[policies.production]
soak_minutes = 60
evidence = ["signature", "scan"]
findings = {{ critical = 0 }}
keys = ["""{pem(KEY)}"""]
incidents = ["P2", "P1"]
backup_minutes = 60
backup = "make"
checklist = ["the on-call knows"]
approvers = {{ sre = 1 }}
way_back = "possible"

[policies.production.hours]
zone = "Europe/Berlin"
days = ["fri", "mon"]
from = "09:00"
to = "16:30"

[freezes.year-end]
environments = ["production", "staging"]
reason = "everybody is away"
zone = "Europe/Berlin"
starts = "2026-12-23T18:00"
minutes = 15840
rule = "FREQ=YEARLY"
'''


@pytest.fixture
def apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Apply:
    """Applies a text; returns what was said."""

    def apply(text: str) -> str:
        file = tmp_path / "company.toml"
        file.write_text(text)
        call_command("apply", str(file), "--yes")
        return capsys.readouterr().out

    return apply


def test_what_is_declared_is_there_and_twice_is_nothing(apply: Apply) -> None:
    said = apply(FILE)
    assert "+ policies.production" in said
    policy = Policy.objects.get()
    assert (policy.evidence, policy.incidents) == (["scan", "signature"], ["P1", "P2"])
    assert policy.hours == {"zone": "Europe/Berlin", "days": ["mon", "fri"], "from": "09:00", "to": "16:30"}
    assert ApproverGroup.objects.get().people == ["bob"]
    assert set(FreezeWindow.objects.values_list("environment__slug", "slug", "rule")) == {
        ("production", "year-end", "FREQ=YEARLY"), ("staging", "year-end", "FREQ=YEARLY"),
    }  # fmt: skip
    before = Entry.objects.count()
    apply(FILE)
    assert Entry.objects.count() == before


def test_a_change_is_shown_and_made(apply: Apply) -> None:
    apply(FILE)
    said = apply(FILE.replace("soak_minutes = 60", "soak_minutes = 90").replace("15840", "1440"))
    assert "soak_minutes: 60 → 90" in said
    assert "minutes: 15840 → 1440" in said
    assert Policy.objects.get().soak_minutes == 90
    assert set(FreezeWindow.objects.values_list("minutes", flat=True)) == {1440}


def test_a_freeze_that_is_not_in_the_file_is_named_and_left_alone(apply: Apply) -> None:
    apply(FILE)
    said = apply(FILE[: FILE.index("[freezes.year-end]")])
    assert "freeze of production: everybody is away" in said
    assert FreezeWindow.objects.filter(ended_at=None).count() == 2


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("[policies.production]", "[policies.moon]", "policies.moon"),
        ('"signature", "scan"', '"word"', "policies.production.evidence"),
        ("critical = 0", "terrible = 0", "policies.production.findings.terrible"),
        ("BEGIN PUBLIC KEY", "BEGIN NONSENSE", "policies.production.keys"),
        ('"P2", "P1"', '"P9"', "policies.production.incidents"),
        ('backup = "make"', 'backup = "perhaps"', "policies.production.backup"),
        ('["the on-call knows"]', '["a", "a"]', "policies.production.checklist"),
        ("sre = 1 }", "nobody = 1 }", "policies.production.approvers.nobody"),
        ('"fri", "mon"', "", "policies.production.hours.days"),
        ('from = "09:00"', 'from = "9"', "policies.production.hours.from"),
        ('to = "16:30"', 'to = "08:00"', "policies.production.hours.to"),
        ('people = ["bob"]', 'people = ["zoe"]', "approver_groups.sre.people"),
        ('["production", "staging"]', '["moon"]', "freezes.year-end.environments"),
        ("2026-12-23T18:00", "soon", "freezes.year-end.starts"),
        ("2026-12-23T18:00", "0001-01-01T00:00", "freezes.year-end.starts: has to be within ten years"),
        ("minutes = 15840", "minutes = 0", "freezes.year-end.minutes"),
        ("FREQ=YEARLY", "FREQ=HOURLY", "freezes.year-end.rule"),
        ("FREQ=YEARLY", "FREQ=YEARLY;INTERVAL=0", "freezes.year-end.rule: has to say INTERVAL"),
    ],
)
def test_every_mistake_is_said_by_its_key(apply: Apply, right: str, wrong: str, key: str) -> None:
    assert right in FILE
    with pytest.raises(CommandError, match=key):
        apply(FILE.replace(right, wrong))
    assert not Policy.objects.exists()
    assert not FreezeWindow.objects.exists()
