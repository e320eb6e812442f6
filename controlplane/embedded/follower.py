"""A PostgreSQL server of our own that follows another one by streaming replication, until it is promoted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from .errors import StackError
from .files import last_lines
from .place import Place
from .postgres import NAME, NOTHING, Postgres
from .processes import spawn


class Follower(Postgres):
    """A copy of `leader`, made while that runs. Promoted, it is a server of its own; `renew` makes it a copy again.

    It has the leader's users and passwords. The leader's port may be another one after each start, so where it is
    stands in the command line; its password does not.
    """

    def __init__(
        self, place: Place, leader: Postgres, *, port: int | None, log: Path, name: str, durable: bool = True,
        more: Mapping[str, str] = NOTHING,
    ) -> None:  # fmt: skip
        super().__init__(place, password=leader.password, port=port, log=log, durable=durable, name=name, more=more)
        self.leader = leader

    @property
    def _password_file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.pgpass")

    @property
    def follows(self) -> bool:
        """Whether it was not promoted since it was made."""
        return (self.folder / "standby.signal").exists()

    def start(self) -> None:
        """Start it as what it is by now: a copy that follows, or a server of its own."""
        self._write_password()
        self.settings["primary_conninfo"] = (
            f"host=127.0.0.1 port={self.leader.port} user={NAME} passfile={self._password_file} "
            f"application_name={self.folder.name}"
        )
        super().start()

    def renew(self) -> None:
        """Throw away what it has and copy the leader again."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.start()

    def _initialise(self) -> None:
        draft = self.folder.with_name(f"{self.folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        self._write_password()
        command = [
            str(self.place.postgres_programs / "pg_basebackup"),
            *("-D", str(draft), "-h", "127.0.0.1", "-p", str(self.leader.port), "-U", NAME),
            *("-X", "stream", "-c", "fast", "--no-password"),
        ]
        command += [] if self.durable else ["--no-sync"]
        env = {"PATH": os.environ.get("PATH", ""), "PGPASSFILE": str(self._password_file)}
        if status := spawn(command, log=self.log, env=env, cwd="/", account=self.place.account).wait():
            words = f"The copy of PostgreSQL could not be made (exit status {status}). Its last words:"
            raise StackError(f"{words}\n{last_lines(self.log)}")
        signal = draft / "standby.signal"
        signal.touch()
        self.place.own(signal)
        draft.rename(self.folder)

    def _write_password(self) -> None:
        path = self._password_file
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"127.0.0.1:*:*:{NAME}:{self.password}\n")
        self.place.own(path)

    def _ensure_database(self) -> None:
        """What the leader has is there."""
