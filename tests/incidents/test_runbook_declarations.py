"""The sections `runbook` and `contacts` of the file: the guide's lists are in the sample, mistakes have their words."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from controlplane.audit.models import Entry
from controlplane.clock.database import database_time
from environments.declarations.reading import Problem, Table, open_table
from incidents.models import Contact, RunbookRun, RunbookTask
from incidents.runbook.checks import CHECKS
from incidents.runbook.declarations import read_contacts, read_tasks
from tests.incidents.runbook import run

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]
SAMPLE = Path(__file__).parents[2] / "controlplane" / "samples" / "pitchey.toml"
FILE = """
[runbook.backups]
title = "Check backup completion"
cadence = "daily"
due = "0 10 * * *"
time_zone = "Europe/Berlin"
owner = "schedule:primary"
check = "backup-completion"

[contacts.legal]
name = "Legal"
email = "legal@pitchey.com"
"""
# The guide's "Operational Runbook" and "External Contacts", word for word.
GUIDE = {
    "daily": [
        "Check system health dashboards", "Review error logs", "Monitor disk space", "Check backup completion",
        "Review security alerts",
    ],
    "weekly": [
        "Database maintenance (VACUUM, ANALYZE)", "Review performance metrics", "Update dependencies",
        "Security scanning", "Backup restoration test",
    ],
    "monthly": [
        "Full system audit", "Capacity planning review", "Disaster recovery drill", "Security patches",
        "Cost optimization review",
    ],
}  # fmt: skip
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


def test_the_sample_has_the_guides_lists() -> None:
    problems: list[Problem] = []
    document = open_table(SAMPLE).document
    tasks = read_tasks(Table("", dict(document), problems, document))
    assert problems == []
    found = {cadence: [one.fields["title"] for one in tasks if one.fields["cadence"] == cadence] for cadence in GUIDE}
    assert found == GUIDE
    used = {one.fields["check_key"] for one in tasks} - {""}
    assert used == set(CHECKS)


def test_the_sample_has_the_guides_contacts() -> None:
    problems: list[Problem] = []
    document = open_table(SAMPLE).document
    contacts = read_contacts(Table("", dict(document), problems, document))
    assert problems == []
    assert [(one.fields["name"], one.fields["email"] or one.fields["how"]) for one in contacts] == [
        ("AWS Support", "Premium support case"),
        ("Database Admin", "dba@pitchey.com"),
        ("Security Team", "security@pitchey.com"),
        ("Legal", "legal@pitchey.com"),
    ]


def test_what_is_declared_is_there_and_twice_is_nothing(apply: Apply) -> None:
    assert "+ runbook.backups" in apply(FILE)
    task, contact = RunbookTask.objects.get(), Contact.objects.get()
    assert (task.cadence, task.time_zone, task.check_key) == ("daily", "Europe/Berlin", "backup-completion")
    assert (contact.name, contact.email) == ("Legal", "legal@pitchey.com")
    before = Entry.objects.count()
    apply(FILE)
    assert Entry.objects.count() == before
    assert {"runbook.declared", "contact.declared"} <= set(Entry.objects.values_list("action", flat=True))


def test_another_time_plans_what_is_still_to_come_anew(apply: Apply) -> None:
    apply(FILE)
    task = RunbookTask.objects.get()
    coming, over = run(task), run(task, left=-timedelta(hours=1))
    said = apply(FILE.replace("0 10 * * *", "0 12 * * *"))
    assert "due: 0 10 * * * → 0 12 * * *" in said
    assert list(RunbookRun.objects.all()) == [over]
    task.refresh_from_db()
    assert database_time() - task.since < timedelta(minutes=1)
    assert not RunbookRun.objects.filter(pk=coming.pk).exists()


def test_another_title_leaves_the_runs_alone(apply: Apply) -> None:
    apply(FILE)
    coming = run(RunbookTask.objects.get())
    apply(FILE.replace("Check backup completion", "Check the backups"))
    assert RunbookRun.objects.get() == coming


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ('title = "Check backup completion"', "", "runbook.backups.title: is missing"),
        ('"daily"', '"hourly"', "“hourly” is not known"),
        ('"0 10 * * *"', '"ten"', "“ten” is no schedule"),
        ('"Europe/Berlin"', '"Berlin"', "“Berlin” is no time zone"),
        ('"backup-completion"', '"backup-complete"', "Did you mean backup-completion?"),
        ('"schedule:primary"', '"schedule:"', "names nobody"),
        ('"schedule:primary"', '"team:a"', "names nobody"),
        ('owner = "schedule:primary"', "owner = 3", "has to be text in quotes"),
        ("cadence =", "every =", "is not a key of this table"),
        ('"legal@pitchey.com"', '"legal"', "“legal” is no e-mail address"),
        ('email = "legal@pitchey.com"', "", "contacts.legal.how: is missing"),
        ('email = "legal@pitchey.com"', 'url = "javascript:alert(1)"', "is no address of the web"),
    ],
)
def test_every_mistake_has_its_words(apply: Apply, was: str, becomes: str, words: str) -> None:
    assert was in FILE
    with pytest.raises(CommandError) as refused:
        apply(FILE.replace(was, becomes))
    assert words in str(refused.value)
    assert not RunbookTask.objects.exists()
    assert not Contact.objects.exists()


def test_what_is_not_in_the_file_is_left_alone_and_said(apply: Apply) -> None:
    apply(FILE)
    said = apply("")
    assert "runbook task backups" in said
    assert "contact legal" in said
    assert RunbookTask.objects.exists()


def test_every_check_is_documented() -> None:
    page = (SAMPLE.parents[2] / "docs" / "runbook.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) - {"check"} == set(CHECKS)
