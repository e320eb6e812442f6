"""A PostgreSQL cluster to be backed up, real and of the test module's own."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups.models import Kind, Policy, Storage, WalStream
from controlplane.embedded.place import discard, prepare_place
from controlplane.embedded.postgres import Postgres
from controlplane.embedded.processes import wait_until
from environments.models import Environment

PASSWORD = "source-password"
SETTINGS = {
    "wal_level": "replica", "summarize_wal": "on", "max_wal_senders": "10", "max_connections": "40",
    "max_prepared_transactions": "5", "shared_buffers": "32MB", "wal_keep_size": "0", "max_wal_size": "128MB",
    "autovacuum": "off", "fsync": "off",
}  # fmt: skip
SECONDS = 40.0


class Source:
    """The cluster, and what tests do to it."""

    def __init__(self, home: Path) -> None:
        self.postgres = Postgres(prepare_place(home), password=PASSWORD, port=None, log=home / "log", durable=False)
        self.postgres.settings = self.postgres.settings | SETTINGS
        self.postgres.start()

    @property
    def url(self) -> str:
        return self.postgres.url

    def ask(self, question: str, *values: object) -> Any:
        """The first value of the first row; None where there is none."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(question, values)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def write(self, text: str) -> datetime:
        """Insert a row; returns the server's time right after it was committed."""
        self.ask("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text)")
        self.ask("INSERT INTO notes (text) VALUES (%s)", text)
        moment: datetime = self.ask("SELECT clock_timestamp()")
        return moment

    def fill(self, segments: int = 1) -> None:
        """Write about so many segments of the log, each ended."""
        self.ask("CREATE TABLE IF NOT EXISTS filling (text text)")
        for _ in range(segments):
            self.ask("INSERT INTO filling SELECT repeat(md5(g::text), 30) FROM generate_series(1, 1000) g")
            self.ask("SELECT pg_switch_wal()")

    def drop_slots(self) -> None:
        self.ask("SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE NOT active")

    def drop_tables(self) -> None:
        self.ask("DROP TABLE IF EXISTS notes, filling")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Source]:
    home = Path(tempfile.mkdtemp(prefix="cp-source-"))
    home.chmod(0o711)  # the server runs as another account where we are root
    source = Source(home)
    try:
        yield source
    finally:
        source.postgres.stop()
        shutil.rmtree(home)


@pytest.fixture
def source(cluster: Source) -> Iterator[Source]:
    """The cluster without anything of an earlier test."""
    yield cluster
    cluster.drop_slots()
    cluster.drop_tables()


@pytest.fixture
def pitr(transactional_db: None, source: Source, data_dir: Path) -> Iterator[Policy]:
    """A policy for it, to a folder."""
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "source").write_text(source.url)
    environment = Environment.objects.create(slug="place", name="Place", position=900)
    storage = Storage.objects.create(slug="disk", kind="folder", settings={"path": "kept"})
    yield Policy.objects.create(
        environment=environment, slug="pitr", kind=Kind.PITR, storage=storage, schedule="0 2 * * *",
        settings={"database": "file:source"},
    )  # fmt: skip
    if (data_dir / "servers").exists():
        discard((data_dir / "servers").resolve())


def stream_of(policy: Policy) -> WalStream:
    return WalStream.objects.select_related("policy__environment").get(policy=policy)


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    assert wait_until(condition, seconds)


def archived(policy: Policy, moment: datetime) -> bool:
    """Whether everything up to the moment is in the storage."""
    row = WalStream.objects.filter(policy=policy).first()
    return row is not None and row.archived_until is not None and row.archived_until >= moment
