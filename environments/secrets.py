"""Configuration and secrets: the database keeps references, the values are fetched when they are needed.

A reference is "env:NAME" (a variable of this process), "file:PATH" (below DATA_DIR/secrets, or an absolute
path) or "aws:NAME" (AWS Secrets Manager, as in the guide). Values are never stored and never logged.
"""

import hashlib
import json
import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from controlplane.operations.errors import StepError
from controlplane.operations.masking import SHORTEST
from environments.models import ConfigEntry, Environment

logger = logging.getLogger(__name__)

# A plain value may name another variable of the same environment, as the guide's DATABASE_URL does.
NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
LONGEST = 64 * 1024
REMEMBERED_SECONDS = 30.0
# Each request of a stranger's would ask for it otherwise.
FAILED_SECONDS = 5.0
PASSING = frozenset({"ThrottlingException", "InternalServiceError", "ServiceUnavailable", "RequestTimeout"})


@dataclass(frozen=True)
class Variable:
    """One environment variable as a process gets it. secret: its value is, or contains, a secret."""

    name: str
    value: str
    secret: bool


def problem_with(reference: str) -> str:
    """What is wrong with a reference that is about to be configured, in words; "" when nothing is."""
    source, _, name = reference.partition(":")
    if source not in _SOURCES or not name:
        return 'is no secret reference; write "file:PATH", "env:NAME" or "aws:NAME"'
    if source == "file" and ".." in PurePosixPath(name).parts:
        return "must not contain .."
    return ""


def resolve(reference: str) -> str:
    """The value behind a reference. Raises StepError, in words that do not contain the value."""
    if wrong := problem_with(reference):
        raise StepError(f"{reference} {wrong}.", permanent=True)
    source, _, name = reference.partition(":")
    value = _SOURCES[source](name)
    if len(value.replace("\n", "").replace("\r", "")) < SHORTEST:
        raise StepError(
            f"The secret {reference} has fewer than {SHORTEST} characters, too few to be kept out of the logs.",
            permanent=True,
        )
    if len(value) > LONGEST:
        raise StepError(
            f"The secret {reference} is longer than {LONGEST // 1024} KB, too much to mask.", permanent=True
        )
    return value


def token_of(reference: str) -> str:
    """The same of a token that goes into a header. Raises StepError also where it is none that could."""
    token = resolve(reference).strip()
    if not re.fullmatch(r"[!-~]+", token):
        # Checked here: the error of whoever refuses the header would repeat it.
        raise StepError(f"The secret {reference} is no token: it is not in visible ASCII characters.", permanent=True)
    return token


class RememberedSecrets:
    """Secrets that requests are checked with: asked for again every half a minute, after a failure in some seconds.

    One that is slow holds up no other.
    """

    def __init__(self) -> None:
        # Until when it holds, and the secret, or why it could not be had.
        self._known: dict[str, tuple[float, str | StepError]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def get(self, reference: str) -> str:
        """The value behind the reference. Raises StepError."""
        with self._locks.setdefault(reference, threading.Lock()):
            until, found = self._known.get(reference, (float("-inf"), ""))
            if time.monotonic() >= until:
                found = self._read(reference)
                seconds = FAILED_SECONDS if isinstance(found, StepError) else REMEMBERED_SECONDS
                self._known[reference] = (time.monotonic() + seconds, found)
        if isinstance(found, StepError):
            raise StepError(str(found), permanent=found.permanent)
        return found

    @staticmethod
    def _read(reference: str) -> str | StepError:
        try:
            return resolve(reference)
        except StepError as error:
            logger.error("A secret that requests are checked with cannot be read: %s", error)
            return error


def secrets_of(environment: Environment) -> list[str]:
    """All secret values of the environment, for masking. What cannot be fetched cannot be shown either."""
    values = []
    for entry in environment.configuration.exclude(secret=""):
        try:
            values.append(resolve(entry.secret))
        except StepError as error:
            logger.warning("%s of %s: %s", entry.key, environment.slug, error)
    return values


def variables(environment: Environment) -> list[Variable]:
    """The environment's configuration with every secret in place. Raises StepError when one cannot be fetched."""
    entries = list(environment.configuration.all())
    values = {entry.key: resolve(entry.secret) if entry.secret else entry.value for entry in entries}
    secret = {entry.key for entry in entries if entry.secret}

    def filled(entry: ConfigEntry) -> Variable:
        if entry.secret:
            return Variable(entry.key, values[entry.key], secret=True)
        value = NAMED.sub(lambda found: values.get(found[1], found[0]), entry.value)
        return Variable(entry.key, value, secret=not secret.isdisjoint(NAMED.findall(entry.value)))

    return [filled(entry) for entry in entries]


def environment_variables(environment: Environment) -> dict[str, str]:
    """The same, as a process is given it. Raises StepError when a secret cannot be fetched."""
    return {variable.name: variable.value for variable in variables(environment)}


class Reference(str):
    """Says where a secret comes from, in the place of its value."""

    __slots__ = ()


def referenced_variables(environment: Environment) -> dict[str, str]:
    """The configuration as files may show it: plain values, and a `Reference` for each that is or contains a secret."""
    entries = list(environment.configuration.all())
    values = {entry.key: Reference(f"${{{entry.secret}}}") if entry.secret else entry.value for entry in entries}

    def filled(entry: ConfigEntry) -> str:
        named = [values[name] for name in NAMED.findall(entry.value) if name in values]
        text = NAMED.sub(lambda found: values.get(found[1], found[0]), entry.value)
        return Reference(text) if any(isinstance(one, Reference) for one in named) else text

    return {entry.key: values[entry.key] if entry.secret else filled(entry) for entry in entries}


def fingerprint(environment: Environment) -> str:
    """Changes when the configuration does (a value, or which secret it refers to); says nothing of the values."""
    rows = list(environment.configuration.order_by("key").values_list("key", "value", "secret"))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _from_process(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise StepError(f"The secret env:{name} is not set for this process.", permanent=True) from None


def _from_file(name: str) -> str:
    path = Path(settings.DATA_DIR) / "secrets" / name
    try:
        return path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise StepError(f"The secret file:{name} cannot be read: {reason}.", permanent=True) from None


def _from_aws(name: str) -> str:
    config = Config(connect_timeout=3, read_timeout=5, retries={"max_attempts": 2, "mode": "standard"})
    try:
        client = boto3.client("secretsmanager", config=config)
        return str(client.get_secret_value(SecretId=name)["SecretString"])
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        words = f"AWS Secrets Manager does not give {name}: {code}."
        raise StepError(words, permanent=code not in PASSING) from None
    except (BotoCoreError, KeyError) as error:
        raise StepError(f"AWS Secrets Manager cannot be asked for {name}: {type(error).__name__}.") from None


_SOURCES = {"env": _from_process, "file": _from_file, "aws": _from_aws}
