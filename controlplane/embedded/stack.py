"""PostgreSQL and Redis for the length of a block: those that the environment names, or embedded ones."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import StackError
from .files import read_json, write_private_json
from .follower import Follower
from .place import Place, prepare_place
from .postgres import Postgres
from .processes import free_port
from .redis import Redis


def open_data_folder(data: Path) -> Path:
    """Make the data folder if it is missing; returns its absolute path. Raises StackError if that cannot be."""
    data = data.resolve()
    try:
        if not data.is_dir():
            data.mkdir(mode=0o711, parents=True)  # root's servers run as another account and must get in
            data.chmod(0o711)
        (data / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"The data folder {data} cannot be used: {error.strerror}. Choose another with --data."
        ) from error
    if not os.access(data, os.W_OK | os.X_OK):
        raise StackError(f"The data folder {data} is not writable for you. Choose another with --data.")
    return data


# The demo company's own database: what its backups need, in little memory.
COMPANY = {
    "wal_level": "replica",
    "summarize_wal": "on",
    "max_wal_senders": "6",
    "max_replication_slots": "4",
    "max_connections": "40",
    "max_wal_size": "512MB",
    # A receiver that is away for good must not fill the disk.
    "max_slot_wal_keep_size": "2GB",
    # The copy that stands for the other region may be away for a while.
    "wal_keep_size": "512MB",
}
REBUILD = "rebuild-dr.json"


class Stack:
    """The servers of a data folder, whose lock the caller holds.

    `postgres` and `redis` are None where `environ` has DATABASE_URL or REDIS_URL. `company` is the database of the
    demo's company, which the control plane backs up, `company_dr` its copy in the other region; None without `demo`.
    `env` is what the programs of the control plane need in addition to `environ`. Passwords, ports and the secret key
    are made once and kept in servers.json (mode 0600).
    """

    def __init__(
        self, data: Path, *, durable: bool = True, demo: bool = False, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.data = open_data_folder(data)
        self.durable = durable
        self.environ = environ
        self.demo = demo
        self.postgres: Postgres | None = None
        self.company: Postgres | None = None
        self.company_dr: Follower | None = None
        self.redis: Redis | None = None
        self.env: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        path = self.data / "servers.json"
        kept: dict[str, Any] = {
            "secret_key": secrets.token_urlsafe(48),
            "postgres_password": secrets.token_hex(24),
            "redis_password": secrets.token_hex(24),
            "company_password": secrets.token_hex(24),
        } | read_json(path)
        write_private_json(path, kept)
        self.env = {"DATA_DIR": str(self.data)}
        if not self._has("SECRET_KEY"):
            self.env["SECRET_KEY"] = kept["secret_key"]
        place = prepare_place(self.data)
        if not self._has("DATABASE_URL"):
            self.postgres = Postgres(place, **self._server("postgres", kept))
            self.postgres.start()
            self.env["DATABASE_URL"] = self.postgres.url
            kept["postgres_port"] = self.postgres.port
        if not self._has("REDIS_URL"):
            self.redis = Redis(place, **self._server("redis", kept))
            self.redis.start()
            self.env["REDIS_URL"] = self.redis.url
            kept["redis_port"] = self.redis.port
        if self.demo:
            self.company = Postgres(place, **self._server("company", kept), name="company", more=COMPANY)
            self.company.start()
            self.env["DEMO"] = "true"
            self.env["DEMO_DATABASE_URL"] = self.company.url_of("pitchey_prod")
            kept["company_port"] = self.company.port
            self._start_follower(place, kept)
            kept["provider_port"] = free_port(kept.get("provider_port"), together=2)
            self.env["RECORDING_PROVIDER"] = f"http://127.0.0.1:{kept['provider_port']}"
        write_private_json(path, kept)

    def stop(self) -> None:
        """Redis first: what PostgreSQL knows is the truth, so it hears everything to the end."""
        if self.redis is not None:
            self.redis.stop()
        for server in (self.company_dr, self.company, self.postgres):
            if server is not None:
                server.stop()

    def _start_follower(self, place: Place, kept: dict[str, Any]) -> None:
        """The database of the demo's other region: a copy that follows, or what a failover made of it."""
        assert self.company is not None
        server = self._server("company", kept) | {"port": kept.get("company_dr_port")}
        server.pop("password")
        server["log"] = self.data / "logs" / "company-dr.log"
        self.company_dr = Follower(place, self.company, **server, name="company-dr", more=COMPANY)
        self.company_dr.start()
        self.env["DEMO_DR_DATABASE_URL"] = self.company_dr.url_of("pitchey_prod")
        kept["company_dr_port"] = self.company_dr.port

    def tend(self) -> None:
        """Make the copy anew when somebody asked for it: after a way home, what it has is on the other side too."""
        path = self.data / REBUILD
        if self.company_dr is None or not path.exists():
            return
        try:
            if not self.company_dr.follows:
                self.company_dr.renew()
        except StackError:
            return  # whom it copies is away for a moment; it is tried again
        path.unlink(missing_ok=True)

    def _has(self, name: str) -> bool:
        """Whether the environment gives `name`, itself or as the file that NAME_FILE points to."""
        return bool(self.environ.get(name) or self.environ.get(f"{name}_FILE"))

    def _server(self, name: str, kept: dict[str, Any]) -> dict[str, Any]:
        return {
            "password": kept[f"{name}_password"],
            "port": kept.get(f"{name}_port"),
            "log": self.data / "logs" / f"{name}.log",
            "durable": self.durable,
        }
