"""Secrets are references; the values come when they are needed, and no message contains one."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import boto3
import pytest
from moto import mock_aws

from controlplane.operations.errors import StepError
from environments.models import Environment
from environments.secrets import RememberedSecrets, environment_variables, fingerprint, resolve, secrets_of


@pytest.fixture
def production(db: None) -> Environment:
    return Environment.objects.create(slug="production", name="Production", driver="local")


@pytest.fixture
def folder(data_dir: Path) -> Path:
    (data_dir / "secrets" / "production").mkdir(parents=True)
    return data_dir / "secrets" / "production"


def test_a_file_below_the_data_folder(folder: Path) -> None:
    (folder / "jwt").write_text("correct-horse\n")
    assert resolve("file:production/jwt") == "correct-horse"
    assert resolve(f"file:{folder / 'jwt'}") == "correct-horse"


def test_a_variable_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PITCHEY_JWT", "correct-horse")
    assert resolve("env:PITCHEY_JWT") == "correct-horse"


@mock_aws
def test_a_secret_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("secretsmanager").create_secret(Name="pitchey/production/jwt-secret", SecretString="correct-horse")
    assert resolve("aws:pitchey/production/jwt-secret") == "correct-horse"
    with pytest.raises(StepError, match="does not give nothing: ResourceNotFoundException") as caught:
        resolve("aws:nothing")
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("vault:jwt", "is no secret reference"),
        ("file:", "is no secret reference"),
        ("file:../servers.json", "must not contain"),
        ("file:production/nothing", "cannot be read: No such file or directory"),
        ("env:NOT_SET_ANYWHERE", "is not set for this process"),
    ],
)
def test_what_cannot_be_had_is_said_in_words(folder: Path, reference: str, words: str) -> None:
    with pytest.raises(StepError, match=words):
        resolve(reference)


def test_a_value_too_short_to_be_masked_is_refused_without_being_told(folder: Path) -> None:
    (folder / "pin").write_text("o7z")
    with pytest.raises(StepError, match="fewer than 4 characters") as caught:
        resolve("file:production/pin")
    assert "o7z" not in str(caught.value)


def test_a_variable_may_contain_others(production: Environment, folder: Path) -> None:
    (folder / "db").write_text("correct-horse")
    production.configuration.create(key="DB_PASSWORD", secret="file:production/db")
    production.configuration.create(key="DATABASE_URL", value="postgresql://u:${DB_PASSWORD}@db/p")
    production.configuration.create(key="PRICE", value="$5 ${UNKNOWN}")
    assert environment_variables(production) == {
        "DATABASE_URL": "postgresql://u:correct-horse@db/p",
        "DB_PASSWORD": "correct-horse",
        "PRICE": "$5 ${UNKNOWN}",
    }


def test_what_can_be_masked_is_masked_though_one_is_missing(
    production: Environment, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "db").write_text("correct-horse")
    production.configuration.create(key="DB_PASSWORD", secret="file:production/db")
    production.configuration.create(key="JWT_SECRET", secret="file:production/jwt")
    production.configuration.create(key="LOG_LEVEL", value="info")
    with caplog.at_level(logging.WARNING):
        assert secrets_of(production) == ["correct-horse"]
    assert "JWT_SECRET of production" in caplog.text
    with pytest.raises(StepError):
        environment_variables(production)


def test_the_fingerprint_changes_with_the_configuration_and_not_with_the_value(
    production: Environment, folder: Path
) -> None:
    production.configuration.create(key="JWT_SECRET", secret="file:production/jwt")
    before = fingerprint(production)
    (folder / "jwt").write_text("another-value")
    assert fingerprint(production) == before
    production.configuration.update(secret="env:JWT")
    assert fingerprint(production) != before


class TestRemembered:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The references that were asked for; env:GONE cannot be had."""
        asked: list[str] = []

        def resolve(reference: str) -> str:
            asked.append(reference)
            if reference == "env:GONE":
                raise StepError("it is not there")
            return "long-enough"

        monkeypatch.setattr("environments.secrets.resolve", resolve)
        return asked

    def test_are_asked_for_once_in_a_while_also_where_they_cannot_be_read(
        self, asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secrets, now = RememberedSecrets(), [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        for now[0] in (0.0, 1.0, 4.9):
            with pytest.raises(StepError, match="not there"):
                secrets.get("env:GONE")
            assert secrets.get("env:THERE") == "long-enough"
        assert asked == ["env:GONE", "env:THERE"]
        now[0] = 5.0
        with pytest.raises(StepError, match="not there"):
            secrets.get("env:GONE")
        assert secrets.get("env:THERE") == "long-enough"
        assert asked == ["env:GONE", "env:THERE", "env:GONE"]

    def test_a_slow_one_holds_up_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun, answered, secrets = Event(), Event(), RememberedSecrets()

        def resolve(reference: str) -> str:
            if reference == "aws:slow":
                begun.set()
                assert answered.wait(40)
            return reference

        monkeypatch.setattr("environments.secrets.resolve", resolve)
        with ThreadPoolExecutor(2) as threads:
            slow = threads.submit(secrets.get, "aws:slow")
            assert begun.wait(40)
            try:
                assert threads.submit(secrets.get, "env:OTHER").result(10) == "env:OTHER"
            finally:
                answered.set()
            assert slow.result(10) == "aws:slow"
