"""One database is migrated for the whole run and copied for each of its processes.

On a busy machine each took longer to migrate its own than a test may take, and then every test tried it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings
from psycopg import sql

from controlplane.embedded.place import CHECKOUT

VARIABLE = "CONTROLPLANE_TEST_TEMPLATE"


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") == "no":
        return
    if not hasattr(config, "workerinput"):
        name = f"template_controlplane_{os.getpid()}"
        config.add_cleanup(lambda: _command("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))
        _migrated(name)
        os.environ[VARIABLE] = name
    copied = {"TEMPLATE": os.environ[VARIABLE], "MIGRATE": False}
    settings.DATABASES["default"].setdefault("TEST", {}).update(copied)


def _migrated(name: str) -> None:
    _command("CREATE DATABASE {}", name)
    url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
    manage = [sys.executable, str(Path(CHECKOUT) / "manage.py"), "migrate", "--verbosity", "0"]
    subprocess.run(manage, env={**os.environ, "DATABASE_URL": url}, check=True)


def _command(words: str, name: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(sql.SQL(words).format(sql.Identifier(name)))
