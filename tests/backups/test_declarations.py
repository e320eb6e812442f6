"""The sections `storages` and `backups` of the configuration file: every mistake has its words, the same is nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from backups.models import Kind, Policy, PolicyClock, Storage
from controlplane.audit.models import Entry

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]
FILE = """
[environments.production]
driver = "local"

[storages.archive]
kind = "folder"
path = "backups"

[backups.production.database]
kind = "database"
storage = "archive"
schedule = "0 2 * * *"
time_zone = "Europe/Berlin"
rpo_minutes = 90
keep = { days = 30, monthly = 12 }
settings = { database = "file:production/database-url" }
proof = "each"
checks = [{ name = "there are users", sql = "SELECT count(*) > 0 FROM users" }]

[backups.production.settings]
kind = "configuration"
storage = "archive"
schedule = "30 2 * * *"
"""
KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
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


def snapshot() -> list[Any]:
    return [list(model._default_manager.order_by("pk").values()) for model in (Storage, Policy, PolicyClock, Entry)]


def test_it_makes_the_file_so(apply: Apply) -> None:
    said = apply(FILE)
    assert "+ storages.archive" in said and "+ backups.production.database" in said
    policy = Policy.objects.get(slug="database")
    assert (policy.kind, policy.schedule, policy.time_zone) == (Kind.DATABASE, "0 2 * * *", "Europe/Berlin")
    assert (policy.rpo_seconds, policy.rto_seconds, policy.keep_days, policy.keep_monthly) == (5400, 14400, 30, 12)
    assert (policy.proof, policy.settings) == ("each", {"database": "file:production/database-url"})
    assert policy.checks == [{"name": "there are users", "sql": "SELECT count(*) > 0 FROM users"}]
    assert (policy.storage.kind, policy.storage.settings) == ("folder", {"path": "backups"})
    assert PolicyClock.objects.count() == 2
    other = Policy.objects.get(slug="settings")
    assert (other.keep_days, other.rpo_seconds, other.proof, other.time_zone) == (30, 3600, "schedule", "UTC")


def test_the_same_again_is_nothing(apply: Apply) -> None:
    apply(FILE)
    PolicyClock.objects.update(due_at=timezone.now())
    before = snapshot()
    assert apply(FILE) == "Nothing to change.\n"
    assert snapshot() == before


def test_each_change_is_audited_and_its_clock_works_it_out_anew(apply: Apply) -> None:
    apply(FILE)
    PolicyClock.objects.update(due_at=timezone.now())
    seen = Entry.objects.latest("pk").pk
    said = apply(FILE.replace('"0 2 * * *"', '"0 3 * * *"').replace('"backups"', '"elsewhere"'))
    assert "~ backups.production.database\n      schedule: 0 2 * * * → 0 3 * * *" in said
    new = Entry.objects.filter(pk__gt=seen).order_by("pk")
    assert [(one.action, one.target, one.scopes) for one in new] == [
        ("storage.declared", "storage archive", []),
        ("backup.policy_declared", "policy production/database", ["production"]),
    ]
    assert new[1].data == {"changes": {"schedule": ["0 2 * * *", "0 3 * * *"]}}
    due = dict(PolicyClock.objects.values_list("policy__slug", "due_at"))
    assert due["database"] is None and due["settings"] is not None


def test_what_is_not_in_the_file_is_left_alone_and_said(apply: Apply) -> None:
    apply(FILE)
    Policy.objects.update(paused=True)
    said = apply('[environments.production]\ndriver = "local"\n')
    assert "not in the file, left alone: storage archive" in said
    assert "not in the file, left alone: backup policy production/database" in said
    assert Policy.objects.filter(paused=True).count() == 2, "pausing is a person's, not the file's"


def test_a_storage_that_exists_need_not_be_in_the_file(apply: Apply) -> None:
    apply(FILE)
    apply(FILE.replace('[storages.archive]\nkind = "folder"\npath = "backups"\n', ""))
    assert Policy.objects.count() == 2


def test_encryption(apply: Apply) -> None:
    apply(FILE + f'encrypt_to = "{KEY}"\nidentity = "file:production/age-key"\n')
    policy = Policy.objects.get(slug="settings")
    assert (policy.recipient, policy.identity) == (KEY, "file:production/age-key")


LAST = 'schedule = "30 2 * * *"\n'
MISTAKES = [
    ('kind = "folder"', 'kind = "folded"', "storages.archive.kind: “folded” is not known", "folder"),
    ('kind = "folder"\n', "", "storages.archive.kind: is missing", ""),
    ('path = "backups"', 'pth = "backups"', "storages.archive.pth", ""),
    ('path = "backups"', "path = 7", "storages.archive.path", ""),
    ('path = "backups"\n', "", "storages.archive.path", ""),
    ('kind = "folder"\npath = "backups"', 'kind = "s3"', "storages.archive.bucket", ""),
    ("[backups.production.database]", "[backups.prodution.database]", "backups.prodution: names no environment", ""),
    ("[backups.production.database]", '[backups.production."Data base"]', "is no name", "small letters"),
    ('kind = "database"', 'kind = "datbase"', "backups.production.database.kind: “datbase” is not known", "database"),
    ('kind = "database"\n', "", "backups.production.database.kind: is missing", ""),
    ('storage = "archive"', 'storage = "archiv"', "there is no storage archiv", "add [storages.archiv] to this file"),
    ('storage = "archive"\n', "", "backups.production.database.storage: is missing", ""),
    ('"0 2 * * *"', '"every day"', "backups.production.database.schedule: “every day” is no schedule", "cron text"),
    ('"0 2 * * *"', '"99 2 * * *"', "backups.production.database.schedule: “99 2 * * *” is no schedule", ""),
    ('schedule = "0 2 * * *"\n', "", "backups.production.database.schedule: is missing", ""),
    ('"Europe/Berlin"', '"Berlin"', "database.time_zone: “Berlin” is no time zone", "Europe/Berlin"),
    ("rpo_minutes = 90", "rpo_minutes = -1", "backups.production.database.rpo_minutes: is -1", ""),
    ("rpo_minutes = 90", 'rpo_minutes = "90"', "database.rpo_minutes: has to be a whole number", ""),
    ("rpo_minutes = 90", "rpo_minuts = 90", "backups.production.database.rpo_minuts: is not a key", "rpo_minutes"),
    ("days = 30", "days = 1000000", "backups.production.database.keep.days: is 1000000", "36600"),
    ("days = 30", "day = 30", "backups.production.database.keep.day: is not a key", "days"),
    ("keep = { days = 30, monthly = 12 }", "keep = 30", "backups.production.database.keep", ""),
    ('"file:production/database-url"', '"postgres://u:p@h/d"', "backups.production.database.settings.database", ""),
    ("settings = { database", "settings = { databse", "backups.production.database.settings.databse", ""),
    ('proof = "each"', 'proof = "always"', "database.proof: “always” is not known", "each"),
    ('proof = "each"', 'proof_schedule = "never"', "backups.production.database.proof_schedule: “never”", "cron"),
    ('sql = "SELECT count', 'query = "SELECT count', "backups.production.database.checks[0]", ""),
    ("checks = [{", "checks = {", "is not TOML", ""),
    (LAST, f'{LAST}encrypt_to = "age1nonsense"\nidentity = "file:k"\n', "backups.production.settings.encrypt_to", ""),
    (LAST, f'{LAST}encrypt_to = "{KEY}"\n', "backups.production.settings.identity: is missing", "restored"),
    (LAST, f'{LAST}identity = "AGE-SECRET-KEY-1"\n', "backups.production.settings.identity", ""),
    (LAST, f"{LAST}full_every = 1001\n", "backups.production.settings.full_every: is 1001", "1000"),
    (LAST, f"{LAST}settings = {{ anything = 1 }}\n", "backups.production.settings.settings.anything", ""),
]  # fmt: skip


@pytest.mark.parametrize(("good", "bad", "key", "remedy"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_names_key_and_remedy_and_changes_nothing(
    apply: Apply, good: str, bad: str, key: str, remedy: str
) -> None:
    assert good in FILE
    before = snapshot()
    with pytest.raises(CommandError) as caught:
        apply(FILE.replace(good, bad, 1))
    words = str(caught.value)
    assert key in words and remedy in words and words.endswith("\nNothing was changed.")
    assert snapshot() == before


def test_a_secret_that_was_typed_is_not_repeated(apply: Apply) -> None:
    with pytest.raises(CommandError) as caught:
        apply(FILE.replace("file:production/database-url", "postgres://u:very-secret@h/d"))
    assert "very-secret" not in str(caught.value)
