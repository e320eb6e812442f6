"""Schedules, the matrix and addresses in the configuration file: the sample is the guide's, and mistakes are named."""

import re
from collections.abc import Callable
from datetime import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from incidents.models import ContactMethod, EscalationLevel, EscalationPolicy, Layer, Schedule
from incidents.oncall.ahead import NAMES
from incidents.oncall.now import on_call

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

SAMPLE = Path(__file__).parents[2] / "controlplane" / "samples" / "pitchey.toml"
FILE = """
[people.alice]
[people.bob]

[schedules.primary]
name = "Primary"
time_zone = "Europe/Berlin"
layers = [
    { name = "Engineers", people = ["alice", "bob"], starts_on = "2026-01-05", handover = "09:00" },
    { name = "Nights", people = ["Bob"], unit = "days", every = 2, starts_on = "2026-01-05", days = ["fri", "sat"], from = "22:00", until = "06:00" },
]

[escalation.matrix]
severities = ["P1"]
levels = [
    { role = "On-Call Engineer", to = ["schedule:primary"], by = ["pagerduty"] },
    { role = "Team Lead", after_minutes = 15, to = ["bob"], by = ["phone", "sms"] },
]

[reach.bob]
phone = "+1 202 555-0102"
"""  # noqa: E501
Apply = Callable[..., str]


@pytest.fixture
def apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Apply:
    """Applies a text; returns what was said."""

    def apply(text: str) -> str:
        file = tmp_path / "company.toml"
        file.write_text(text)
        call_command("apply", str(file), "--yes")
        return capsys.readouterr().out

    return apply


def test_it_makes_the_file_so(apply: Apply) -> None:
    apply(FILE)
    rows = list(Layer.objects.values_list("position", "people", "unit", "every", "days", "from_time", "until_time"))
    assert rows == [
        (1, ["alice", "bob"], "week", 1, [], None, None),
        (2, ["bob"], "day", 2, [4, 5], time(22), time(6)),
    ]
    assert Schedule.objects.get().time_zone == "Europe/Berlin"
    levels = list(EscalationLevel.objects.values_list("number", "after_seconds", "targets", "channels"))
    assert levels == [
        (1, 0, [{"schedule": "primary"}], ["pagerduty"]),
        (2, 900, [{"person": "bob"}], ["phone", "sms"]),
    ]
    assert ContactMethod.objects.get().address == "+12025550102"


def test_the_same_again_is_nothing_and_each_change_is_audited(apply: Apply) -> None:
    apply(FILE)
    assert apply(FILE) == "Nothing to change.\n"
    seen = Entry.objects.count()
    changed = FILE.replace('["alice", "bob"]', '["bob", "alice"]').replace("minutes = 15", "minutes = 20")
    said = apply(changed.replace("0102", "0103"))
    assert "~ schedules.primary" in said
    assert "~ escalation.matrix" in said
    assert "+12025550103" not in said
    actions = list(Entry.objects.order_by("pk").values_list("action", flat=True)[seen:])
    assert sorted(actions) == ["escalation.declared", "oncall.declared", "reach.changed"]


def test_what_is_not_in_the_file_is_left_alone_and_said(apply: Apply) -> None:
    apply(FILE)
    said = apply("[people.alice]\n[people.bob]\n")
    assert "not in the file, left alone: schedule primary" in said
    assert "not in the file, left alone: escalation policy matrix" in said
    assert (Schedule.objects.count(), EscalationPolicy.objects.count(), ContactMethod.objects.count()) == (1, 1, 1)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('people = ["Bob"]', 'people = ["zed"]', "schedules.primary.layers[1].people: there is nobody called zed"),
        ('people = ["Bob"]', "people = []", "layers[1].people: is missing"),
        ('people = ["Bob"]', "people = [1]", "layers[1].people: has to be a list of texts"),
        ('"Europe/Berlin"', '"Berlin"', "schedules.primary.time_zone: “Berlin” is no time zone"),
        ('"fri"', '"friday"', "layers[1].days: “friday” is no day"),
        ('unit = "days"', 'unit = "months"', "layers[1].unit: “months” is not known"),
        ('handover = "09:00"', 'handover = "9"', "layers[0].handover: “9” is no time of day"),
        ('handover = "09:00"', 'ends_on = "2025-01-01"', "layers[0].ends_on: has to be after"),
        ('starts_on = "2026-01-05", handover', "handover", "layers[0].starts_on: is missing"),
        ('name = "Nights", ', "", "layers[1].name: is missing"),
        ("every = 2", "evry = 2", "evry: is not a key of this table"),
        ("schedule:primary", "schedule:nights", "levels[0].to: there is no schedule nights"),
        ('to = ["bob"]', 'to = ["zed"]', "levels[1].to: there is nobody called zed"),
        ('to = ["bob"]', "to = []", "levels[1].to: is missing"),
        ('"pagerduty"', '"pigeon"', "levels[0].by: “pigeon” is no channel"),
        ("after_minutes = 15", "after_minutes = 0", "escalation.matrix.levels: L2 has to come later than L1"),
        ('["P1"]', '["P7"]', "escalation.matrix.severities: “P7” is none"),
        ("[reach.bob]", "[reach.zed]", "reach.zed: there is nobody called zed"),
        ("+1 202 555-0102", "555-0102", "reach.bob.phone: “5550102” has to be a telephone number"),
        ("phone =", "fax =", "reach.bob.fax: is not a key"),
    ],
)
def test_mistakes_are_named_and_change_nothing(apply: Apply, before: str, after: str, words: str) -> None:
    assert before in FILE
    with pytest.raises(CommandError) as refused:
        apply(FILE.replace(before, after))
    assert words in str(refused.value)
    assert not Person.objects.exists()


def test_one_severity_belongs_to_one_policy(apply: Apply) -> None:
    twice = FILE + '\n[escalation.other]\nseverities = ["P1"]\nlevels = [{ role = "x", to = ["bob"], by = ["sms"] }]\n'
    with pytest.raises(CommandError, match=r"P1 is escalated by escalation\.matrix already"):
        apply(twice)
    apply(FILE)
    with pytest.raises(CommandError, match="P1 is escalated by matrix already"):
        apply(twice.replace("[escalation.matrix]", "[escalation.third]").replace('["P1"]', '["P1"]', 1))


def test_the_sample_is_the_matrix_of_the_guide(apply: Apply) -> None:
    apply(SAMPLE.read_text())
    rows = EscalationLevel.objects.filter(policy__severities__contains=["P1"])
    assert [(one.role, one.after_seconds // 60, one.channels[0]) for one in rows] == [
        ("On-Call Engineer", 0, "pagerduty"),
        ("Team Lead", 15, "phone"),
        ("Engineering Manager", 30, "phone"),
        ("CTO", 60, "phone"),
    ]
    assert [one.targets for one in rows] == [
        [{"schedule": "primary"}],
        [{"person": "carol"}],
        [{"person": "erin"}],
        [{"person": "frank"}],
    ]
    assert EscalationPolicy.objects.get(severities__contains=["P2"]).slug == rows[0].policy.slug
    (now,) = on_call("primary", database_time())
    assert now.username in ("alice", "bob")


def test_the_example_of_the_documents_applies(apply: Apply) -> None:
    text = (Path(__file__).parents[2] / "docs" / "on-call.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    apply("[people.alice]\n[people.bob]\n[people.carol]\n" + example)
    assert Layer.objects.count() == 2
    assert EscalationLevel.objects.count() == 2
    assert set(NAMES.values()) == set(re.findall(r"`(OnCall\w+)`", text))
