"""`manage.py apply FILE`: the whole file is checked first, the difference is shown, and the same again is nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.accounts.models import Grant, Person
from controlplane.audit.models import Entry
from environments.models import ConfigEntry, Environment, Placement, ProbeSchedule, Service

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

SAMPLE = Path(__file__).parents[2] / "controlplane" / "samples" / "pitchey.toml"
FILE = """
[services.shop]
name = "Shop"

[environments.staging]
driver = "local"

[environments.production]
driver = "local"
url = "https://api.pitchey.com"
approvals_required = 1
promoted_from = "staging"
settings = { checks = 3 }

[environments.production.services.shop]
instances = [{ name = "production-1", address = "auto" }, { name = "production-2", address = "http://10.0.0.2:80" }]

[environments.production.configuration]
LOG_LEVEL = "info"
JWT_SECRET = { secret = "file:production/jwt" }

[people.alice]
name = "Alice Arden"
roles = { "*" = "viewer", staging = "operator" }
"""

Apply = Callable[..., str]


@pytest.fixture
def apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Apply:
    """Applies a text; returns what was said."""

    def apply(text: str | Path, *options: str) -> str:
        file = tmp_path / "company.toml"
        if isinstance(text, Path):
            file = text
        else:
            file.write_text(text)
        call_command("apply", str(file), *(options or ("--yes",)))
        return capsys.readouterr().out

    return apply


def snapshot() -> list[Any]:
    models = (Environment, Service, Placement, ConfigEntry, ProbeSchedule, Person, Grant, Entry)
    return [list(model._default_manager.order_by("pk").values()) for model in models]


def test_it_makes_the_file_so(apply: Apply) -> None:
    apply(FILE)
    production = Environment.objects.get(slug="production")
    assert (production.name, production.position, production.approvals_required) == ("Production", 1, 1)
    assert production.driver_settings == {"checks": 3}
    placement = Placement.objects.get()
    assert [one["name"] for one in placement.instances] == ["production-1", "production-2"]
    assert placement.instances[0]["address"].startswith("http://127.0.0.1:")
    assert ProbeSchedule.objects.get().placement == placement
    assert list(production.configuration.values_list("key", "value", "secret")) == [
        ("JWT_SECRET", "", "file:production/jwt"),
        ("LOG_LEVEL", "info", ""),
    ]
    assert dict(Person.objects.get().grants.values_list("scope", "role")) == {"*": "viewer", "staging": "operator"}
    assert not Person.objects.get().has_usable_password()


def test_the_same_again_is_nothing(apply: Apply) -> None:
    apply(FILE)
    before = snapshot()
    assert apply(FILE) == "Nothing to change.\n"
    assert snapshot() == before


def test_the_sample_is_the_company_of_the_guide(apply: Apply) -> None:
    apply(SAMPLE)
    rows = list(Environment.objects.values_list("slug", "purpose", "url"))
    assert rows == [
        ("development", "Local development", "http://localhost:8000"),
        ("staging", "Pre-production testing", "https://staging.pitchey.com"),
        ("production", "Live environment", "https://api.pitchey.com"),
        ("dr", "Disaster recovery", "https://dr.pitchey.com"),
    ]
    assert len(Placement.objects.get(environment__slug="production").instances) == 3
    people = {"alice", "bob", "dana", "ada", "carol", "erin", "frank", "pipeline-backend"}
    assert set(Person.objects.values_list("username", flat=True)) == people
    assert apply(SAMPLE) == "Nothing to change.\n"


def test_each_change_is_audited_with_before_and_after(apply: Apply) -> None:
    apply(FILE)
    seen = Entry.objects.order_by("-pk").first()
    assert seen
    apply(FILE.replace('"info"', '"debug"').replace("https://api", "https://www"))
    new = Entry.objects.filter(pk__gt=seen.pk).order_by("pk")
    assert [(one.action, one.target, one.scopes, one.via) for one in new] == [
        ("environment.declared", "environment production", ["production"], "manage.py"),
        ("environment.configured", "environment production", ["production"], "manage.py"),
    ]
    assert new[0].data == {"changes": {"url": ["https://api.pitchey.com", "https://www.pitchey.com"]}}


def test_it_shows_what_comes_what_differs_and_what_goes(apply: Apply) -> None:
    apply(FILE)
    said = apply(
        FILE.replace('LOG_LEVEL = "info"\n', "").replace("approvals_required = 1", "approvals_required = 2")
        + '[people.bob]\nroles = { "*" = "approver" }\n',
        "--yes",
    )
    assert "~ environments.production\n      approvals_required: 1 → 2\n" in said
    assert "~ environments.production.configuration\n      LOG_LEVEL: “info” → nothing\n" in said
    assert "+ people.bob.roles\n      *: approver\n" in said


def test_without_yes_and_without_a_terminal_it_only_shows(apply: Apply) -> None:
    before = snapshot()
    said = apply(FILE, "--no-color")
    assert "+ environments.production" in said
    assert said.endswith("Nothing was changed. Add --yes to make 7 changes.\n")
    assert snapshot() == before


def test_what_is_not_in_the_file_is_left_alone_and_said(apply: Apply) -> None:
    apply(FILE)
    said = apply(FILE[: FILE.index("[people.alice]")].replace('[environments.staging]\ndriver = "local"', "", 1))
    assert "not in the file, left alone: environment staging" in said
    assert "not in the file, left alone: person alice" in said
    assert Environment.objects.filter(slug="staging").exists()


def test_an_address_that_was_given_out_stays(apply: Apply) -> None:
    apply(FILE)
    before = Placement.objects.get().instances
    apply(
        FILE.replace('{ name = "production-2"', '{ name = "production-3", address = "auto" }, { name = "production-2"')
    )
    after = Placement.objects.get().instances
    assert after[0] == before[0]
    assert after[1]["name"] == "production-3"


ERRORS = [
    (
        'driver = "local"\nurl',
        'driver = "locl"\nurl',
        "environments.production.driver: “locl” is not known",
        "mean local?",
    ),
    ('driver = "local"\nurl', "url", "environments.production.driver: is missing", "write text"),
    (
        "approvals_required = 1",
        "approvals_requird = 1",
        "environments.production.approvals_requird: is not a key",
        "mean",
    ),
    (
        "approvals_required = 1",
        'approvals_required = "1"',
        "environments.production.approvals_required: has to be",
        "text",
    ),
    ("approvals_required = 1", "approvals_required = true", "approvals_required: has to be a whole number", "true or"),
    (
        "approvals_required = 1",
        "approvals_required = -1",
        "environments.production.approvals_required: is -1",
        "0 to 20",
    ),
    ('"https://api.pitchey.com"', '"ftp://x"', "environments.production.url: “ftp://x”", "has to begin with"),
    ('"https://api.pitchey.com"', '"http://169.254.169.254"', "environments.production.url:", "metadata address"),
    (
        '"http://10.0.0.2:80"',
        '"http://[fe80::1]"',
        "production.services.shop.instances[1].address:",
        "metadata address",
    ),
    (
        'promoted_from = "staging"',
        'promoted_from = "stagng"',
        "environments.production.promoted_from:",
        "no environment",
    ),
    (
        'promoted_from = "staging"',
        'promoted_from = "production"',
        "production.promoted_from: is the environment",
        "itself",
    ),
    ("settings = { checks = 3 }", "settings = { chcks = 3 }", "environments.production.settings.chcks:", "no setting"),
    (
        "settings = { checks = 3 }",
        'settings = { checks = "3" }',
        "environments.production.settings.checks:",
        "whole number",
    ),
    (
        "[environments.production.services.shop]",
        "[environments.production.services.shap]",
        "services.shap:",
        "no service shap",
    ),
    (
        '"production-2"',
        '"production-1"',
        "environments.production.services: the instance production-1",
        "more than once",
    ),
    (
        'name = "production-1", address = "auto"',
        'name = "production-1", address = "http://10.0.0.2:80/"',
        "production.services.shop.instances: production-2 of production has the address of production-1 of production",
        "of its own",
    ),
    ('"production-2"', '"Production 2"', "services.shop.instances[1].name:", "small letters"),
    (
        'LOG_LEVEL = "info"',
        "LOG_LEVEL = 7",
        "environments.production.configuration.LOG_LEVEL: has to be text",
        "secret",
    ),
    (
        'LOG_LEVEL = "info"',
        '"LOG-LEVEL" = "info"',
        "environments.production.configuration.LOG-LEVEL:",
        "letters, digits",
    ),
    ('LOG_LEVEL = "info"', 'LOG_LEVEL = "${NOTHING}"', "configuration.LOG_LEVEL: names ${NOTHING}", "add it"),
    ('"file:production/jwt"', '"vault:jwt"', "environments.production.configuration.JWT_SECRET.secret:", "file:PATH"),
    (
        'staging = "operator"',
        'staging = "boss"',
        "people.alice.roles.staging: “boss”",
        "admin, approver, operator, viewer",
    ),
    (
        'staging = "operator"',
        'stage = "operator"',
        "people.alice.roles.stage: there is no environment stage",
        "everywhere",
    ),
    ("[environments.staging]", "[environments.Staging_1]", "environments.Staging_1: is no name", "small letters"),
    ("[services.shop]", "[servces.shop]", "servces: is not a key", "Did you mean services?"),
    ("[people.alice]", "[people.alice", "is not TOML:", "line"),
]


@pytest.mark.parametrize(("good", "bad", "key", "remedy"), ERRORS, ids=lambda value: str(value)[:40])
def test_a_mistake_names_file_key_and_remedy_and_changes_nothing(
    apply: Apply, good: str, bad: str, key: str, remedy: str
) -> None:
    assert good in FILE
    before = snapshot()
    with pytest.raises(CommandError) as caught:
        apply(FILE.replace(good, bad, 1))
    assert caught.value.returncode == 2
    words = str(caught.value)
    assert "company.toml: " in words
    assert key in words
    assert remedy in words
    assert words.endswith("\nNothing was changed.")
    assert snapshot() == before


def test_an_address_of_another_environment_is_refused_too(apply: Apply) -> None:
    staging = """[environments.staging.services.shop]
instances = [{ name = "production-2", address = "http://10.0.0.2:80" }]

[environments.production]"""
    with pytest.raises(CommandError, match="production-2 of production has the address of production-2 of staging"):
        apply(FILE.replace("[environments.production]", staging, 1))
    assert not Placement.objects.exists()


def test_instances_that_are_not_asked_one_by_one_may_share_an_address(apply: Apply) -> None:
    elsewhere = FILE.replace('name = "production-1", address = "auto"', 'name = "one", address = "http://10.0.0.2:80"')
    apply(elsewhere.replace('driver = "local"\nurl', 'driver = "ecs"\nurl').replace("settings = { checks = 3 }\n", ""))
    assert [one["address"] for one in Placement.objects.get().instances] == ["http://10.0.0.2:80"] * 2


def test_all_mistakes_are_told_at_once(apply: Apply) -> None:
    with pytest.raises(CommandError) as caught:
        apply(FILE.replace('"local"', '"locl"').replace('"viewer"', '"boss"').replace('"info"', "7"))
    assert len(str(caught.value).splitlines()) == 5


def test_a_file_that_is_not_there_is_said(apply: Apply, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read: No such file or directory"):
        apply(tmp_path / "nothing.toml")
