"""A primary and its standby, real servers; and a writer that remembers what it was told is committed."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from controlplane.embedded.errors import StackError
from controlplane.embedded.follower import Follower
from controlplane.embedded.place import prepare_place
from controlplane.embedded.postgres import Postgres
from controlplane.embedded.processes import wait_until

DATABASE, ROLE = "orders", "app"
MORE = {"wal_level": "replica", "max_wal_senders": "6", "max_connections": "40", "shared_buffers": "16MB"}
SECONDS = 40.0


class Pair:
    """Two servers; the second follows the first from the beginning."""

    def __init__(self, home: Path) -> None:
        place = prepare_place(home)
        self.primary = Postgres(place, password="secret", port=None, log=home / "log", durable=False, more=MORE)
        self.primary.start()
        self.on(self.primary, "postgres", f"CREATE ROLE {ROLE} LOGIN PASSWORD 'app'", f"CREATE DATABASE {DATABASE}")
        self.on(
            self.primary, DATABASE,
            "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())",
            f"GRANT SELECT, INSERT ON orders TO {ROLE}",
        )  # fmt: skip
        self.standby = Follower(
            place, self.primary, port=None, log=home / "log-dr", name="dr", durable=False, more=MORE
        )
        try:
            self.standby.start()
        except StackError:
            self.stop()
            raise

    def on(self, server: Postgres, database: str, *statements: str) -> None:
        """As the administrator."""
        with psycopg.connect(server.url_of(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def ids(self, server: Postgres) -> set[int]:
        """The orders that are there."""
        with psycopg.connect(server.url_of(DATABASE), autocommit=True) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM orders").fetchall()}

    def stop(self) -> None:
        self.standby.stop()
        self.primary.stop()


@dataclass
class Writer:
    """An application: orders all the time. acknowledged: those it was told are committed."""

    server: Postgres
    start: int = 1
    acknowledged: set[int] = field(default_factory=set)
    refused: str = ""

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    @property
    def url(self) -> str:
        return f"postgres://{ROLE}:app@127.0.0.1:{self.server.port}/{DATABASE}"

    def __enter__(self) -> "Writer":
        self._thread.start()
        assert wait_until(lambda: len(self.acknowledged) > 20, SECONDS)
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join(SECONDS)

    def _write(self) -> None:
        number = self.start
        connection = None
        while not self._stopping.is_set():
            try:
                if connection is None or connection.closed:
                    connection = psycopg.connect(self.url, autocommit=True, connect_timeout=2)
                connection.execute("INSERT INTO orders (id) VALUES (%s)", [number])
                self.acknowledged.add(number)
            except psycopg.Error as error:
                self.refused = str(error)
                with suppress(psycopg.Error):
                    if connection is not None:
                        connection.close()
                connection = None
                self._stopping.wait(0.02)
            number += 1
        if connection is not None:
            connection.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Made anew for each test: a promoted standby never goes back."""
    home = Path(tempfile.mkdtemp(prefix="cp-pair-"))
    home.chmod(0o711)
    made = Pair(home)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(home)


Until = Callable[[Callable[[], bool]], None]


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    assert wait_until(condition, SECONDS)
