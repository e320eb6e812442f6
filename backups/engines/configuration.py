"""Configuration: an environment's variables with the references of its secrets, never their values, and what runs.

A plain value is kept as it stands in the environment's configuration, so a password that somebody wrote there as a
plain value is in the backup too: such values belong into a secret reference.
"""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from backups.engines.base import Hand, Job, Taken
from backups.engines.contents import opened
from backups.sealing import Sealer
from backups.storage.base import Store
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from environments.models import ConfigEntry, Environment
from environments.secrets import problem_with

FORMAT = "controlplane configuration 1"
CONFIGURATION = "configuration.json"
NOTHING = "nothing"

# Of a variable: its plain value and the reference of its secret, one of them empty.
Variables = dict[str, tuple[str, str]]


class ConfigurationEngine:
    """See `base.Engine`. It needs no settings: the environment is that of the policy."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """See `base.Engine`."""
        return dict.fromkeys(settings, "is no setting of configuration, which has none")

    def look(self, job: Job, hand: Hand) -> None:
        """The environment is there."""
        _environment(job.environment)

    def take(self, job: Job, hand: Hand) -> Taken:
        """See `base.Engine`. The variables are read by one query, so they are of one moment."""
        environment = _environment(job.environment)
        at = database_time()
        variables = variables_of(environment)
        placements = environment.placements.order_by("service__slug")
        services = list(placements.values("service__slug", "version", "digest"))
        content = {
            "format": FORMAT,
            "environment": environment.slug,
            "as_of": at.isoformat(),
            "variables": {
                key: {"secret": secret} if secret else {"value": value} for key, (value, secret) in variables.items()
            },
            "services": {
                one["service__slug"]: {"version": one["version"], "digest": one["digest"]} for one in services
            },
        }
        data = json.dumps(content, indent=1, ensure_ascii=False).encode()
        key = job.key + CONFIGURATION + job.sealer.suffix
        stored = job.store.put(key, job.sealer.seal([data]), check=hand.check)
        secrets = sum(1 for _, secret in variables.values() if secret)
        hand.log(f"{len(variables)} variables, {secrets} of them by the reference of a secret")
        return Taken((stored,), at, len(data), {"variables": len(variables), "secrets": secrets})


def variables_of(environment: Environment) -> Variables:
    """The environment's configuration now, by name."""
    rows = environment.configuration.order_by("key").values_list("key", "value", "secret")
    return {key: (value, secret) for key, value, secret in rows}


def read_configuration(manifest: Mapping[str, Any], store: Store, sealer: Sealer) -> dict[str, Any]:
    """What a configuration backup holds: environment, variables, services. Raises StepError."""
    name = manifest["objects"][0]["name"]
    with opened(store, manifest, name) as stored, sealer.unseal(stored, manifest["key_id"]) as plain:
        text = plain.read()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _no_configuration(manifest) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content["variables"], dict):
        raise _no_configuration(manifest)
    return content


def configuration_changes(
    manifest: Mapping[str, Any], store: Store, sealer: Sealer, environment: Environment
) -> list[str]:
    """What a restore would change, a line a variable: "LOG_LEVEL: “info” → “debug”". Raises StepError."""
    return _changes(variables_of(environment), _wanted(manifest, store, sealer, environment))


def restore_configuration(
    manifest: Mapping[str, Any], store: Store, sealer: Sealer, environment: Environment
) -> list[str]:
    """Make the environment's configuration what it was, in one transaction; returns what changed, for the audit entry.

    Raises StepError for a backup of another environment, and for one that holds what cannot be a variable.
    """
    wanted = _wanted(manifest, store, sealer, environment)
    with transaction.atomic():
        # Two restores, or somebody who declares the configuration meanwhile, one after the other.
        locked = Environment.objects.select_for_update().get(pk=environment.pk)
        changes = _changes(variables_of(locked), wanted)
        if changes:
            locked.configuration.exclude(key__in=wanted).delete()
            for key, (value, secret) in wanted.items():
                ConfigEntry.objects.update_or_create(
                    environment=locked, key=key, defaults={"value": value, "secret": secret}
                )
    return changes


def _wanted(manifest: Mapping[str, Any], store: Store, sealer: Sealer, environment: Environment) -> Variables:
    content = read_configuration(manifest, store, sealer)
    for whose in (manifest["environment"], content["environment"]):
        if whose != environment.slug:
            words = f"This is the configuration of {whose}, not of {environment.slug}. Choose a backup of its own."
            raise StepError(words, permanent=True)
    return {key: _variable(key, one, manifest) for key, one in sorted(content["variables"].items())}


def _variable(key: str, one: Any, manifest: Mapping[str, Any]) -> tuple[str, str]:
    value, secret = (one.get("value", ""), one.get("secret", "")) if isinstance(one, dict) else (None, None)
    if not isinstance(value, str) or not isinstance(secret, str) or (value and secret):
        raise _no_configuration(manifest)
    if secret and (wrong := problem_with(secret)):
        raise StepError(f"The variable {key} of this backup {wrong}.", permanent=True)
    return value, secret


def _changes(there: Variables, wanted: Variables) -> list[str]:
    return [
        f"{key}: {_shown(there.get(key))} → {_shown(wanted.get(key))}"
        for key in sorted(there.keys() | wanted.keys())
        if there.get(key) != wanted.get(key)
    ]


def _shown(variable: tuple[str, str] | None) -> str:
    """A variable in one word: its value, or where its secret comes from."""
    if variable is None:
        return NOTHING
    value, secret = variable
    return f"secret {secret}" if secret else f"“{value}”"


def _environment(slug: str) -> Environment:
    environment = Environment.objects.filter(slug=slug).first()
    if environment is None:
        raise StepError(f"There is no environment {slug} any more.", permanent=True)
    return environment


def _no_configuration(manifest: Mapping[str, Any]) -> StepError:
    return StepError(f"{manifest['key']} holds no configuration that this version can read.", permanent=True)
