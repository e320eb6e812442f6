"""Other people of the same computer can reach loopback: every server wants a password that only its owner can read."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
import redis

from controlplane.embedded.processes import PROC, everybody
from controlplane.embedded.stack import Stack

from .servers import redis_at


def test_files_with_secrets_are_for_their_owner_only(data: Path) -> None:
    with Stack(data, durable=False, environ={}):
        assert (data / "servers.json").stat().st_mode & 0o777 == 0o600
        assert (data / "servers").stat().st_mode & 0o777 == 0o700
        assert (data / "logs").stat().st_mode & 0o777 == 0o700


def test_nobody_gets_in_without_the_password(data: Path) -> None:
    with Stack(data, durable=False, environ={}) as stack:
        assert stack.postgres is not None
        assert stack.redis is not None
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(stack.env["DATABASE_URL"].replace(stack.postgres.password, "guessed"))
        with redis_at(f"redis://127.0.0.1:{stack.redis.port}") as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_no_password_stands_in_the_list_of_processes(data: Path) -> None:
    with Stack(data, durable=False, environ={}) as stack:
        assert stack.postgres is not None
        assert stack.redis is not None
        words = {stack.postgres.password.encode(), stack.redis.password.encode()}
        for process in everybody():
            line = PROC / str(process.pid) / "cmdline"
            text = line.read_bytes() if os.access(line, os.R_OK) else b""
            assert not any(word in text for word in words), process


def test_secrets_are_made_once(data: Path) -> None:
    with Stack(data, durable=False, environ={}) as stack:
        first = stack.env["SECRET_KEY"]
    with Stack(data, durable=False, environ={}) as stack:
        assert stack.env["SECRET_KEY"] == first


def test_what_the_environment_names_is_used_as_it_is(data: Path) -> None:
    given = {"DATABASE_URL": "postgres://elsewhere/db", "REDIS_URL_FILE": "/run/redis", "SECRET_KEY": "given"}
    with Stack(data, environ=given) as stack:
        assert stack.env == {"DATA_DIR": str(data)}
        assert stack.postgres is None
        assert stack.redis is None
