"""What a chaos run backs up: small databases that never stand still, and where their backups go.

A writer changes each database all the time, and with each change the same transaction writes down what is true from
then on: how many rows there are and the sum of their hashes. So whatever is restored can be asked, by SQL alone,
whether it is one moment of its database, and which.
"""

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg
from botocore.config import Config

from backups.models import Kind, Policy, PolicyClock, Storage
from backups.sealing import new_identity
from controlplane.embedded.postgres import Postgres
from controlplane.embedded.processes import free_port, wait_until
from environments.models import Environment
from tests.backups.stores import rclone
from tests.backups.wire import ACCESS_KEY, SECRET_KEY, Proxy

BUCKET = "kept"
ACCOUNTS, BALANCE, EVENTS = 200, 1000, 3000
PACE_SECONDS = 0.02
PASSING = "passing"

SCHEMA = """
CREATE TABLE events (id bigserial PRIMARY KEY, body text NOT NULL, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL);
CREATE TABLE notes (id int PRIMARY KEY, text text, tags jsonb, amount numeric(12, 2));
CREATE TABLE wide (id int PRIMARY KEY, a text, b text, c text, d text, e text, raw bytea);
CREATE TABLE journal (n bigint PRIMARY KEY, events bigint NOT NULL, total numeric NOT NULL);
CREATE INDEX ON events (at);
INSERT INTO events (body) SELECT md5(n::text) FROM generate_series(1, {events}) n;
INSERT INTO accounts SELECT n, {balance} FROM generate_series(1, {accounts}) n;
INSERT INTO notes SELECT n, repeat('né\tx' || chr(10), n % 9), jsonb_build_object('n', n), n * 1.01
  FROM generate_series(1, 500) n;
INSERT INTO wide SELECT n, md5(n::text), md5(random()::text), repeat('w', n), NULL, '',
    (SELECT string_agg(decode(md5(random()::text), 'hex'), ''::bytea) FROM generate_series(1, 640) WHERE n > 0)
  FROM generate_series(1, {wide}) n;
INSERT INTO journal SELECT 1, count(*), sum(hashtext(body)) FROM events;
"""
CHANGE = [
    "INSERT INTO events (body) SELECT md5(random()::text) FROM generate_series(1, 1 + (random() * 20)::int)",
    "UPDATE accounts SET balance = balance + CASE id WHEN %(giver)s THEN -%(sum)s ELSE %(sum)s END"
    " WHERE id IN (%(giver)s, %(taker)s)",
    f"DELETE FROM events WHERE id <= (SELECT max(id) - {EVENTS} FROM events)",
    "INSERT INTO journal SELECT (SELECT max(n) + 1 FROM journal), count(*), sum(hashtext(body)) FROM events",
]
# One row: which moment it is, and what is wrong with it.
TRUTH = f"""
SELECT j.n, (SELECT count(*) FROM events) = j.events AND (SELECT sum(hashtext(body)) FROM events) = j.total,
       (SELECT sum(balance) = {ACCOUNTS * BALANCE} AND count(*) = {ACCOUNTS} FROM accounts)
  FROM journal j ORDER BY n DESC LIMIT 1
"""
STILL = """
SELECT md5((SELECT string_agg(md5(t::text), '' ORDER BY id) FROM notes t)
        || (SELECT string_agg(md5(t::text), '' ORDER BY id) FROM wide t))
"""


@dataclass
class Lane:
    """One database and its policy. still: a digest of the tables that never change. identity: "" for no encryption."""

    policy: Policy
    database: str
    identity: str
    still: str
    damaged: set[int] = field(default_factory=set)

    @property
    def in_bucket(self) -> bool:
        """Where its backups are."""
        return self.policy.storage.kind == "s3"

    @property
    def is_cluster(self) -> bool:
        """What its backups are of: all databases at once."""
        return self.policy.kind == Kind.PITR


class S3:
    """`rclone serve s3` on a port that stays, behind a proxy that can be told to fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "s3"
        self.log = folder / "logs" / "rclone.log"
        (self.folder / BUCKET).mkdir(parents=True)
        self.port = free_port()
        self.start()
        self.proxy = Proxy(self.port)
        self.client: Any = boto3.client(
            "s3", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10}),
        )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [rclone(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key",
                   f"{ACCESS_KEY},{SECRET_KEY}", str(self.folder)]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
            )  # fmt: skip

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End of the run."""
        self.kill()
        self.proxy.close()

    def uploads(self) -> list[str]:
        """Keys of uploads that are not finished."""
        try:
            found = self.client.list_multipart_uploads(Bucket=BUCKET)
        except self.client.exceptions.NoSuchUpload:
            return []
        return [one["Key"] for one in found.get("Uploads", [])]

    def keys(self) -> list[str]:
        """All objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]


class Places:
    """Both storages, read and damaged by nobody's code but this."""

    def __init__(self, folder: Path, s3: S3) -> None:
        self.folder = folder / "kept"
        self.s3 = s3
        settings = {"endpoint_url": s3.proxy.url, "bucket": BUCKET, "access_key": "env:CHAOS_S3_KEY",
                    "secret_key": "env:CHAOS_S3_SECRET", "answer_seconds": 3, "attempts": 3}  # fmt: skip
        os.environ |= {"CHAOS_S3_KEY": ACCESS_KEY, "CHAOS_S3_SECRET": SECRET_KEY}
        self.disk = Storage.objects.create(slug="disk", kind="folder", settings={"path": "kept"})
        self.bucket = Storage.objects.create(slug="bucket", kind="s3", settings=settings)

    def read(self, lane: Lane, key: str) -> bytes:
        """An object. Raises KeyError when it is not there."""
        try:
            if not lane.in_bucket:
                return (self.folder / key).read_bytes()
            content: bytes = self.s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except (FileNotFoundError, self.s3.client.exceptions.NoSuchKey):
            raise KeyError(key) from None
        return content

    def write(self, lane: Lane, key: str, content: bytes | None) -> None:
        """Behind everybody's back. None: take it away."""
        if not lane.in_bucket:
            path = self.folder / key
            path.unlink() if content is None else path.write_bytes(content)
        elif content is None:
            self.s3.client.delete_object(Bucket=BUCKET, Key=key)
        else:
            self.s3.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def everything(self) -> Iterator[str]:
        """The name of each file and object, hidden ones too."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(self.folder))
        yield from self.s3.keys()


def make_lanes(count: int, company: Postgres, places: Places) -> list[Lane]:
    """Dumps to a folder and to a bucket, plain and encrypted, small and in parts; the last one is a cluster's."""
    environment = Environment.objects.create(slug="production", name="Production", driver="local")
    lanes = []
    for number in range(count):
        cluster = number == 5  # then its backups are those of all of them
        in_bucket = number % 2 == 1 and not cluster
        identity, recipient = new_identity() if number in (1, 2) else ("", "")
        database = f"shop_{number}"
        still = _fill(company, database, wide=1200 if number == 3 else 100)  # 12 MB are more than a part
        names = {f"CHAOS_URL_{number}": company.url_of(database), f"CHAOS_KEY_{number}": identity}
        os.environ |= names
        policy = Policy.objects.create(
            environment=environment, slug=f"shop-{number}", kind=Kind.PITR if cluster else Kind.DATABASE,
            storage=places.bucket if in_bucket else places.disk, schedule="0 0 29 2 *", proof=Policy.Proof.NEVER,
            settings={"database": f"env:CHAOS_URL_{number}"}, full_every=3,
            recipient=recipient, identity=f"env:CHAOS_KEY_{number}" if identity else "",
        )  # fmt: skip
        PolicyClock.objects.create(policy=policy)
        lanes.append(Lane(policy, database, identity, still))
    return lanes


def _fill(company: Postgres, database: str, *, wide: int) -> str:
    """Returns the digest of what stands still."""
    with closing(psycopg.connect(company.url, autocommit=True)) as admin:
        admin.execute(f"CREATE DATABASE {database} TEMPLATE template0".encode())
    with closing(psycopg.connect(company.url_of(database), autocommit=True)) as connection:
        script = SCHEMA.format(events=EVENTS, balance=BALANCE, accounts=ACCOUNTS, wide=wide)
        connection.execute(script.encode())
        row = connection.execute(STILL).fetchone()
    assert row is not None
    return str(row[0])


def moment_of(company: Postgres, database: str) -> int:
    """How far the writer has come. Raises psycopg.OperationalError while the server is away."""
    with closing(psycopg.connect(company.url_of(database), autocommit=True, connect_timeout=5)) as connection:
        row = connection.execute("SELECT max(n) FROM journal").fetchone()
    assert row is not None
    return int(row[0])


class Writer(threading.Thread):
    """Changes a database after the other, through every restart of their server."""

    def __init__(self, company: Postgres, databases: list[str]) -> None:
        super().__init__(daemon=True)
        self.company, self.databases = company, databases
        self.stopped = threading.Event()
        self.connections: dict[str, psycopg.Connection[Any]] = {}
        self.choice = random.Random(7)

    def run(self) -> None:
        while not self.stopped.wait(PACE_SECONDS):
            database = self.choice.choice(self.databases)
            try:
                self._change(database)
            except psycopg.Error:
                if connection := self.connections.pop(database, None):
                    connection.close()
        for connection in self.connections.values():
            connection.close()

    def _change(self, database: str) -> None:
        if database not in self.connections:
            self.connections[database] = psycopg.connect(self.company.url_of(database), connect_timeout=5)
        giver, taker = self.choice.sample(range(1, ACCOUNTS + 1), 2)
        values = {"giver": giver, "taker": taker, "sum": self.choice.randint(1, 50)}
        with self.connections[database].transaction():
            for statement in CHANGE:
                self.connections[database].execute(statement, values)


def make_passing(company: Postgres, database: str) -> None:
    """A table that is there only for a while."""
    with closing(psycopg.connect(company.url_of(database), autocommit=True)) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {PASSING}")
        connection.execute(f"CREATE TABLE {PASSING} AS SELECT n, md5(n::text) FROM generate_series(1, 2000) n")


def drop_passing(company: Postgres, database: str) -> None:
    """In a thread of its own: it waits for whoever reads the table."""

    def drop() -> None:
        with (
            suppress(psycopg.Error),
            closing(psycopg.connect(company.url_of(database), autocommit=True)) as connection,
        ):
            connection.execute("SET lock_timeout = '20s'")
            connection.execute(f"DROP TABLE IF EXISTS {PASSING}")

    threading.Thread(target=drop, daemon=True).start()


def listening(s3: S3) -> bool:
    """Wait until the server answers."""

    def answers() -> bool:
        with suppress(Exception):
            s3.client.list_buckets()
            return True
        return False

    return wait_until(answers, 10.0)
