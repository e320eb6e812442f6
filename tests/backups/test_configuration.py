"""Configuration: references of secrets and never their values; it comes back as a whole, and only where it belongs."""

import json
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction

from backups.engines.configuration import ConfigurationEngine, configuration_changes, read_configuration
from backups.manifest import encoded
from backups.restoring_files import restore_configuration
from backups.sealing import Sealer, new_identity
from controlplane.operations.errors import StepError
from environments.models import ConfigEntry, Environment
from tests.backups.files import Shelf
from tests.estate import Estate

pytestmark = pytest.mark.django_db


@pytest.fixture
def shelf(estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setenv("DB_PASSWORD", "the-very-secret-value")
    configure(estate.production, LOG_LEVEL="info", DB_PASSWORD="secret env:DB_PASSWORD", EMPTY="")
    return Shelf(ConfigurationEngine(), "configuration", {}, tmp_path / "storage")


def configure(environment: Environment, **variables: str) -> None:
    environment.configuration.all().delete()
    for key, value in variables.items():
        secret = value.removeprefix("secret ") if value.startswith("secret ") else ""
        ConfigEntry.objects.create(environment=environment, key=key, value="" if secret else value, secret=secret)


def rows(environment: Environment) -> dict[str, str]:
    found = environment.configuration.values_list("key", "value", "secret")
    return {key: f"secret {secret}" if secret else value for key, value, secret in found}


def test_references_are_kept_and_values_never(shelf: Shelf, estate: Estate) -> None:
    manifest = shelf.take()
    assert manifest["facts"] == {"variables": 3, "secrets": 1}
    content = read_configuration(manifest, shelf.store, shelf.sealer)
    assert content["variables"] == {
        "DB_PASSWORD": {"secret": "env:DB_PASSWORD"},
        "EMPTY": {"value": ""},
        "LOG_LEVEL": {"value": "info"},
    }
    placement = estate.production.placements.get()
    assert content["services"] == {"api": {"version": "1.4.0", "digest": placement.digest}}
    everything = b"".join(path.read_bytes() for path in shelf.root.rglob("*") if path.is_file())
    assert b"the-very-secret-value" not in everything + "\n".join(shelf.hand.lines).encode() + encoded(manifest)


def test_what_a_restore_would_change_and_then_does(shelf: Shelf, estate: Estate) -> None:
    manifest = shelf.take()
    configure(estate.production, LOG_LEVEL="debug", NEW="x", EMPTY="")
    arguments = (manifest, shelf.store, shelf.sealer, estate.production)
    expected = [
        "DB_PASSWORD: nothing → secret env:DB_PASSWORD",
        "LOG_LEVEL: “debug” → “info”",
        "NEW: “x” → nothing",
    ]
    assert configuration_changes(*arguments) == expected
    assert rows(estate.production)["NEW"] == "x"
    assert restore_configuration(*arguments) == expected
    assert rows(estate.production) == {"LOG_LEVEL": "info", "DB_PASSWORD": "secret env:DB_PASSWORD", "EMPTY": ""}
    assert restore_configuration(*arguments) == []


def test_a_variable_may_become_a_secret_and_back(shelf: Shelf, estate: Estate) -> None:
    manifest = shelf.take()
    configure(estate.production, LOG_LEVEL="secret env:LEVEL", DB_PASSWORD="plain", EMPTY="")
    restore_configuration(manifest, shelf.store, shelf.sealer, estate.production)
    assert rows(estate.production) == {"LOG_LEVEL": "info", "DB_PASSWORD": "secret env:DB_PASSWORD", "EMPTY": ""}


def test_another_environment_is_refused(shelf: Shelf, estate: Estate) -> None:
    manifest = shelf.take()
    configure(estate.staging, LOG_LEVEL="debug")
    with pytest.raises(StepError, match="configuration of production, not of staging") as raised:
        restore_configuration(manifest, shelf.store, shelf.sealer, estate.staging)
    assert raised.value.permanent
    forged = {**manifest, "environment": "staging"}  # the object itself says whose it is, too
    with pytest.raises(StepError, match="of production"):
        configuration_changes(forged, shelf.store, shelf.sealer, estate.staging)
    assert rows(estate.staging) == {"LOG_LEVEL": "debug"}


@pytest.mark.parametrize(
    "variables",
    [
        {"A": {"secret": "file:../../etc/passwd"}},
        {"A": {"secret": "nowhere"}},
        {"A": {"value": "x", "secret": "env:A"}},
        {"A": {"value": 5}},
        {"A": "x"},
        ["A"],
    ],
)
def test_what_cannot_be_a_variable_changes_nothing(shelf: Shelf, estate: Estate, variables: object) -> None:
    manifest = shelf.take()
    content = read_configuration(manifest, shelf.store, shelf.sealer) | {"variables": variables}
    (object_,) = manifest["objects"]
    stored = shelf.store.put(object_["key"], [json.dumps(content).encode()])
    object_["sha256"] = stored.sha256
    with pytest.raises(StepError) as raised:
        restore_configuration(manifest, shelf.store, shelf.sealer, estate.production)
    assert raised.value.permanent
    assert rows(estate.production)["LOG_LEVEL"] == "info"


def test_a_changed_byte_is_found(shelf: Shelf, estate: Estate) -> None:
    manifest = shelf.take()
    path = shelf.root / manifest["objects"][0]["key"]
    path.write_bytes(path.read_bytes().replace(b"info", b"warn"))
    with pytest.raises(StepError, match="damaged"):
        restore_configuration(manifest, shelf.store, shelf.sealer, estate.production)


def test_sealed(shelf: Shelf, estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, recipient = new_identity()
    monkeypatch.setenv("AGE_KEY", secret)
    shelf.sealer = Sealer(recipient, "env:AGE_KEY")
    manifest = shelf.take()
    assert b"LOG_LEVEL" not in (shelf.root / manifest["objects"][0]["key"]).read_bytes()
    estate.production.configuration.all().delete()
    assert len(restore_configuration(manifest, shelf.store, shelf.sealer, estate.production)) == 3


def test_an_environment_that_is_gone(shelf: Shelf) -> None:
    shelf.environment = "nowhere"
    with pytest.raises(StepError, match="no environment nowhere"):
        ConfigurationEngine().look(shelf.job(), shelf.hand)
    assert ConfigurationEngine().check_settings({"a": 1}) and not ConfigurationEngine().check_settings({})


def test_it_is_one_transaction(shelf: Shelf, estate: Estate) -> None:
    """A row that the database refuses leaves all as they were."""
    manifest = shelf.take()
    configure(estate.production, KEPT="x")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE environments_configentry ADD CONSTRAINT no_level CHECK (key <> 'LOG_LEVEL')")
    with pytest.raises(IntegrityError, match="no_level"), transaction.atomic():
        restore_configuration(manifest, shelf.store, shelf.sealer, estate.production)
    assert rows(estate.production) == {"KEPT": "x"}
