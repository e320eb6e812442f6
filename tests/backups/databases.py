"""A real database with all kinds of tables, and what a backup of it takes."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.utils.timezone import now

from backups import manifest as manifests
from backups.engines.base import Job
from backups.engines.database import DatabaseEngine
from backups.programs import Server
from backups.sealing import Sealer
from backups.storage.base import Store
from backups.storage.folder import FolderStore

MIXED = r"""
CREATE SCHEMA "Odd Schema";
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TABLE users (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE, name text, mood mood,
                    "Born" date, loud text GENERATED ALWAYS AS (upper(name)) STORED);
INSERT INTO users (email, name, mood, "Born")
  SELECT 'u' || n || '@example.com', repeat('né\tx' || chr(10), n % 4) || E'\\N \\. \x01\x03', 'cross',
         DATE '2000-01-01' + n
    FROM generate_series(1, 500) n;
CREATE TABLE orders (id bigserial PRIMARY KEY, user_id int REFERENCES users, amount numeric(12, 2), score float8,
                     at timestamptz, took interval, payload jsonb, raw bytea, tags text[]);
INSERT INTO orders (user_id, amount, score, at, took, payload, raw, tags)
  SELECT 1 + n % 500, n * 1.01, sqrt(n), '2026-01-01 00:00+05'::timestamptz + n * interval '1 h', n * interval '1 min',
         jsonb_build_object('n', n), decode(md5(n::text), 'hex'), ARRAY['a', NULL, 'b"c']
    FROM generate_series(1, 3000) n;
CREATE INDEX orders_of_user ON orders (user_id);
CREATE TABLE nothing (id int);
CREATE TABLE empties (text text);
INSERT INTO empties SELECT '' FROM generate_series(1, 300);
CREATE TABLE tens (text text);  -- rows of ten bytes: the length is a newline
INSERT INTO tens SELECT '123456789' FROM generate_series(1, 300);
CREATE TABLE wide (text text);  -- longer than a block that is read at once, and lengths with zeros in them
INSERT INTO wide VALUES (repeat('w', 700000)), (repeat('x', 255)), (repeat('y', 65535)),
                        (repeat(E'\x01', 100000)), (NULL);
CREATE TABLE "Odd Schema"."Weird.""Table" ("a (b)" int, "FROM stdin;" text);
INSERT INTO "Odd Schema"."Weird.""Table" SELECT n, 'odd' FROM generate_series(1, 7) n;
CREATE TABLE parted (id int, part int) PARTITION BY LIST (part);
CREATE TABLE parted_one PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_two PARTITION OF parted FOR VALUES IN (2);
CREATE INDEX parted_id ON parted (id);
INSERT INTO parted SELECT n, 1 + n % 2 FROM generate_series(1, 100) n;
CREATE TABLE base (id int); CREATE TABLE heir (more text) INHERITS (base);
INSERT INTO base VALUES (1); INSERT INTO heir VALUES (2, 'two'), (3, 'three');
CREATE VIEW rich AS SELECT * FROM orders WHERE amount > 100;
CREATE MATERIALIZED VIEW sums AS SELECT user_id, sum(amount) FROM orders GROUP BY 1;
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER shouting BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION shout();
SELECT lo_from_bytea(0, decode(repeat('00ff01', n * 20000), 'hex')) FROM generate_series(0, 2) n;
"""
ROWS = {
    'public.users': 500, 'public.orders': 3000, 'public.nothing': 0, 'public.empties': 300, 'public.tens': 300,
    'public.wide': 5, '"Odd Schema"."Weird.""Table"': 7, 'public.parted_one': 50, 'public.parted_two': 50,
    'public.base': 1, 'public.heir': 2,
}  # fmt: skip


class Notes:
    """A hand that writes down what it is told. on_check: called at each check."""

    fence = 1

    def __init__(self, on_check: Callable[[], None] = lambda: None) -> None:
        self.lines: list[str] = []
        self.masked: set[str] = set()
        self.told: list[tuple[int, int, str]] = []
        self.on_check = on_check

    def log(self, text: str, *, level: str = "line") -> None:
        self.lines.append(text)

    def mask(self, *values: str) -> None:
        self.masked.update(values)

    def did(self, what: str, subject: str, **facts: Any) -> None:
        """Not of interest."""

    def progress(self, done: int, total: int, unit: str) -> None:
        self.told.append((done, total, unit))

    def save_checkpoint(self, **values: Any) -> None:
        pass

    def check(self) -> None:
        self.on_check()

    def wait(self, seconds: float) -> None:
        pass


def url_of(server: Server) -> str:
    return f"postgres://{server.user}:{server.password}@{server.host}:{server.port}/{server.database}"


@contextmanager
def database(script: str = "", *, encoding: str = "UTF8") -> Iterator[Server]:
    """A database of its own on the tests' server, dropped at the end."""
    server = Server.of_url(os.environ["DATABASE_URL"]).named(f"backup_{secrets.token_hex(6)}")
    with closing(server.named("postgres").connect(autocommit=True)) as admin:
        admin.execute(f"CREATE DATABASE \"{server.database}\" TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        try:
            if script:
                run(server, script)
            yield server
        finally:
            admin.execute(f'DROP DATABASE IF EXISTS "{server.database}" WITH (FORCE)')


def run(server: Server, script: str) -> list[Any]:
    """Run SQL; the rows of a single query."""
    with closing(server.connect(autocommit=True)) as connection:
        cursor = connection.execute(script.encode())
        return cursor.fetchall() if cursor.description else []


def job_for(
    server: Server, store: Store | Path, monkeypatch: Any, *, sealer: Sealer | None = None, **settings: Any
) -> Job:
    """A job whose policy names the server by a secret reference."""
    name = f"URL_{server.database.upper()}"
    monkeypatch.setenv(name, url_of(server))
    if isinstance(store, Path):
        store = FolderStore(store)
    prefix = "production/database/"
    return Job(
        "production",
        "database",
        {"database": f"env:{name}", **settings},
        store,
        prefix,
        f"{prefix}one/",
        sealer or Sealer(),
    )


def backed_up(job: Job, hand: Notes | None = None) -> dict[str, Any]:
    """Make a backup; its manifest."""
    started = now()
    taken = DatabaseEngine().take(job, hand or Notes())
    return manifests.manifest_of(job, taken, kind="database", operation=1, started_at=started, finished_at=now())
