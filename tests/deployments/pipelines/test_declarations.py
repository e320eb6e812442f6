"""The section `pipelines`: it is made so, the same is nothing, and every mistake has its words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.accounts.access import holders
from controlplane.accounts.models import Grant, Person, Role
from controlplane.audit.models import Entry
from deployments.models import Pipeline

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]
HEAD = """
[services.api]
name = "API"

[environments.staging]
driver = "local"

[environments.production]
driver = "local"
"""
RULE = """
[pipelines.backend]
repository = "pitchey/api"
refs = ["refs/heads/main", "refs/tags/v*"]
services = ["api"]
may = ["report", "deploy"]
environments = ["staging", "production"]
"""
Apply = Callable[..., str]


@pytest.fixture
def apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Apply:
    """Applies a text; returns what was said."""

    def apply(text: str) -> str:
        file = tmp_path / "company.toml"
        file.write_text(HEAD + text)
        call_command("apply", str(file), "--yes")
        return capsys.readouterr().out

    return apply


def test_it_makes_the_file_so(apply: Apply) -> None:
    said = apply(RULE)
    rule = Pipeline.objects.get()
    assert "+ pipelines.backend" in said and "repository: pitchey/api" in said
    assert (rule.issuer, rule.events) == ("https://token.actions.githubusercontent.com", ["push", "workflow_dispatch"])
    assert rule.keys_url == "https://token.actions.githubusercontent.com/.well-known/jwks"
    assert (rule.audience, rule.may_report, rule.paused, rule.status) == ("http://127.0.0.1:8000", True, False, {})
    grants = {(grant.scope, grant.role) for grant in rule.person.grants.all()}
    assert grants == {("staging", "operator"), ("production", "operator")}
    assert not rule.person.has_usable_password()
    assert Entry.objects.get(action="pipeline.declared").scopes == ["production", "staging"]


def test_the_same_again_is_nothing(apply: Apply) -> None:
    apply(RULE)
    said = apply(RULE)
    assert "Nothing to change." in said and "left alone" not in said


def test_an_environment_that_goes_takes_its_role(apply: Apply) -> None:
    apply(RULE)
    said = apply(RULE.replace('["staging", "production"]', '["staging"]'))
    assert "~ pipelines.backend" in said
    assert list(Grant.objects.filter(person__username="pipeline-backend").values_list("scope", flat=True)) == [
        "staging"
    ]


def test_roles_that_somebody_changed_are_put_right(apply: Apply) -> None:
    apply(RULE)
    Grant.objects.filter(scope="staging").delete()
    assert "order and roles" in apply(RULE)
    assert Grant.objects.filter(scope="staging", role=Role.OPERATOR).exists()


def test_the_order_of_the_file_is_kept(apply: Apply) -> None:
    other = RULE.replace("backend", "other")
    apply(RULE + other)
    apply(other + RULE)
    assert list(Pipeline.objects.values_list("slug", flat=True)) == ["other", "backend"]


def test_what_is_not_in_the_file_is_left_alone_and_said(apply: Apply) -> None:
    apply(RULE)
    said = apply("")
    assert "left alone: pipeline backend" in said and "person pipeline-backend" not in said


def test_a_pipeline_is_nobody_one_could_turn_to(apply: Apply) -> None:
    apply(RULE)
    assert Person.objects.filter(username="pipeline-backend").exists()
    assert holders(Role.OPERATOR, ["staging"]) == []


def test_an_app_and_a_paused_rule(apply: Apply) -> None:
    app = 'status = { app_id = "7", installation_id = "8", private_key = "file:key" }\nstate = "paused"\n'
    apply(RULE + app)
    rule = Pipeline.objects.get()
    assert rule.paused and rule.status == {
        "api": "https://api.github.com", "app_id": "7", "installation_id": "8", "private_key": "file:key",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"pitchey/api"', '"pitchey"', "OWNER/NAME"),
        ('"pitchey/api"', '"pitchey/*"', "OWNER/NAME"),
        ('"refs/tags/v*"', '"refs/*/x"', "at most one *"),
        ('"refs/tags/v*"', '"refs/pull/*"', "never refs/pull/"),
        ('"refs/tags/v*"', '"main"', "refs/heads/NAME"),
        ('["refs/heads/main", "refs/tags/v*"]', "[]", "is missing"),
        ('services = ["api"]', 'services = ["web"]', "is not a service of this file"),
        ('services = ["api"]', "services = []", "name at least one"),
        ('"staging", "production"', '"moon"', "is not an environment of this file"),
        ('may = ["report", "deploy"]', 'may = ["approve"]', "is not what a pipeline may do"),
        ('may = ["report", "deploy"]', 'may = ["report"]', "goes with may"),
        ('may = ["report"', 'issuer = "http://issuer.example"\nmay = ["report"', "has to begin with https://"),
        ('may = ["report"', 'issuer = "http://169.254.169.254"\nmay = ["report"', "link-local"),
        ('may = ["report"', 'webhook_secret = "hunter2"\nmay = ["report"', "no secret reference"),
        ('may = ["report"', 'status = { token = "ghp_x" }\nmay = ["report"', "no secret reference"),
        ('may = ["report"', 'status = { api = "http://x.example", token = "env:X" }\nmay = ["report"', "https://"),
        ('may = ["report"', 'status = { app_id = "1" }\nmay = ["report"', "installation_id"),
        ('may = ["report"', 'branch = "x"\nmay = ["report"', "is not a key of this table"),
        ("[pipelines.backend]", f"[pipelines.{'x' * 55}]", "too long"),
    ],
)
def test_every_mistake_has_its_words(apply: Apply, old: str, new: str, words: str) -> None:
    assert old in RULE
    with pytest.raises(CommandError) as error:
        apply(RULE.replace(old, new))
    assert words in str(error.value)
    assert not Pipeline.objects.exists() and not Person.objects.exists()


def test_the_names_of_pipelines_are_not_for_people(apply: Apply) -> None:
    with pytest.raises(CommandError, match="those of pipelines"):
        apply('[people.pipeline-mallory]\nname = "M"\nroles = { "*" = "admin" }\n')


def test_no_secret_is_stored(apply: Apply, data_dir: Path) -> None:
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "hook").write_text("the-secret-itself")
    said = apply(RULE + 'webhook_secret = "file:hook"\n')
    rows: list[Any] = [list(Pipeline.objects.values()), list(Entry.objects.values())]
    assert "the-secret-itself" not in said + str(rows)
