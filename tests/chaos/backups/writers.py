"""The databases of a chaos run, and who changes them: they never stand still.

With each change the same transaction writes down what is true from then on: how many rows there are and the sum of
their hashes. So whatever is restored can be asked, by SQL alone, whether it is one moment of its database, and which.
"""

import random
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from controlplane.embedded.postgres import Postgres
from controlplane.embedded.processes import wait_until

ACCOUNTS, BALANCE, EVENTS = 200, 1000, 3000
PACE_SECONDS = 0.02
CLIENT_PACE_SECONDS = 0.1
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
    "INSERT INTO journal SELECT coalesce(%(n)s::bigint, (SELECT max(n) + 1 FROM journal)), count(*),"
    " sum(hashtext(body)) FROM events",
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
NUMBERS = "SELECT n FROM journal"

Connection = psycopg.Connection[tuple[Any, ...]]


def fill(server: Postgres, database: str, *, wide: int) -> str:
    """Make a database; returns the digest of what stands still."""
    with closing(psycopg.connect(server.url, autocommit=True)) as admin:
        admin.execute(f"CREATE DATABASE {database} TEMPLATE template0".encode())
    with closing(psycopg.connect(server.url_of(database), autocommit=True)) as connection:
        script = SCHEMA.format(events=EVENTS, balance=BALANCE, accounts=ACCOUNTS, wide=wide)
        connection.execute(script.encode())
        row = connection.execute(STILL).fetchone()
    assert row is not None
    return str(row[0])


def look(connection: Connection, source: str, still: str) -> tuple[int, list[str]]:
    """Which moment of its source a database is, and what is wrong with it. still: the digest of what never changes."""
    truth = connection.execute(TRUTH.encode()).fetchone()
    digest = connection.execute(STILL.encode()).fetchone()
    if truth is None or digest is None:
        return 0, [f"{source} is empty"]
    moment, whole, balanced = truth
    wrong = [] if whole else [f"{source}: the events are not those of moment {moment}"]
    wrong += [] if balanced else [f"{source}: the accounts are of no single moment"]
    wrong += [] if digest[0] == still else [f"{source}: what never changed is another"]
    return int(moment), wrong


def numbers_in(connection: Connection) -> frozenset[int]:
    """Every moment that is written down in a database."""
    return frozenset(int(n) for (n,) in connection.execute(NUMBERS))


def moment_of(server: Postgres, database: str) -> int:
    """How far the writer has come. Raises psycopg.OperationalError while the server is away."""
    with closing(psycopg.connect(server.url_of(database), autocommit=True, connect_timeout=5)) as connection:
        row = connection.execute("SELECT max(n) FROM journal").fetchone()
    assert row is not None
    return int(row[0])


class Writer(threading.Thread):
    """Changes a database after the other, through every restart of their server."""

    def __init__(self, server: Postgres, databases: list[str]) -> None:
        super().__init__(daemon=True)
        self.server, self.databases = server, databases
        self.stopped = threading.Event()
        self.connections: dict[str, Connection] = {}
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
            self.connections[database] = psycopg.connect(self.server.url_of(database), connect_timeout=5)
        with self.connections[database].transaction():
            change(self.connections[database], self.choice)


def change(connection: Connection, choice: random.Random, n: int | None = None) -> None:
    """One change, in a transaction that is open. n: the number it gets, None for the one that follows."""
    giver, taker = choice.sample(range(1, ACCOUNTS + 1), 2)
    values = {"giver": giver, "taker": taker, "sum": choice.randint(1, 50), "n": n}
    for statement in CHANGE:
        connection.execute(statement, values)


@dataclass
class Write:
    """A change, and the database it went to. begun, ended: seconds since 1970, right before and after its commit.

    ended: None while nobody knows what became of it.
    """

    n: int
    database: int
    begun: float
    ended: float | None = None


@dataclass(frozen=True)
class Arrival:
    """What was in a database when its client first got in. wrong: in words."""

    numbers: frozenset[int]
    wrong: tuple[str, ...]


class Client(threading.Thread):
    """Writes to one database by its name, comes back whenever it is sent away, and keeps a ledger of its own.

    A database is told from another of the same name by its number on the server (oid). No number of a change is
    ever given twice, so each says which database, and which of its times, it belongs to.
    """

    def __init__(self, server: Postgres, database: str, still: str) -> None:
        super().__init__(daemon=True)
        self.server, self.database, self.still = server, database, still
        self.stopped = threading.Event()
        self.connection: Connection | None = None
        self.at = 0  # the oid of the database it is connected to
        self.writes: list[Write] = []
        self.arrivals: dict[int, Arrival] = {}
        self.refusal = ""
        self.choice = random.Random(11)

    def run(self) -> None:
        while not self.stopped.wait(CLIENT_PACE_SECONDS):
            try:
                self._write(self.connection or self._arrive())
            except psycopg.Error as error:
                self.refusal = " ".join(str(error).split())
                self._leave()
        self._leave()

    def _arrive(self) -> Connection:
        self.connection = connection = psycopg.connect(self.server.url_of(self.database), connect_timeout=5)
        row = connection.execute("SELECT oid::bigint FROM pg_database WHERE datname = current_database()").fetchone()
        assert row is not None
        self.at = int(row[0])
        if self.at not in self.arrivals:
            _, wrong = look(connection, self.database, self.still)
            self.arrivals[self.at] = Arrival(numbers_in(connection), tuple(wrong))
        connection.commit()
        return connection

    def _leave(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _write(self, connection: Connection) -> None:
        n = self.last + 1
        change(connection, self.choice, n)
        write = Write(n, self.at, time.time())
        self.writes.append(write)
        connection.commit()
        write.ended = time.time()

    # --- what it knows ----------------------------------------------------------------------------

    @property
    def last(self) -> int:
        """The number of its last change, whatever became of it."""
        return self.writes[-1].n if self.writes else 1

    @property
    def acknowledged(self) -> int:
        """The number of its last change that was committed for sure."""
        return next((one.n for one in reversed(list(self.writes)) if one.ended is not None), 1)

    def comes_in(self, database: int, seconds: float) -> bool:
        """Wait until it has written to the database of that oid, from now on."""
        now = time.time()

        def wrote() -> bool:
            recent = list(self.writes)[-20:]
            return any(one.database == database and one.begun > now and one.ended is not None for one in recent)

        return wait_until(wrote, seconds)

    def differences(self, database: int) -> list[str]:
        """What of its ledger is not in the database it writes to now, and what is in there that it did not write."""
        must = {one.n for one in list(self.writes) if one.database == database and one.ended is not None}
        with closing(psycopg.connect(self.server.url_of(self.database), connect_timeout=5)) as connection:
            _, wrong = look(connection, self.database, self.still)
            there = numbers_in(connection) - self.arrivals[database].numbers
        may = {one.n for one in list(self.writes) if one.database == database}
        return wrong + _compared(there, must, may)

    def differences_at(self, moment: float, there: frozenset[int], *, at_most: float | None = None) -> list[str]:
        """The same of what came back as it was at a moment, in seconds since 1970; or at one up to `at_most`."""
        writes = list(self.writes)
        must = {one.n for one in writes if one.ended is not None and one.ended <= moment}
        may = {one.n for one in writes if one.begun <= (moment if at_most is None else at_most)} | {1}
        return _compared(there, must | {1}, may)


def _compared(there: frozenset[int], must: set[int], may: set[int]) -> list[str]:
    missing, strange = sorted(must - there), sorted(there - may)
    wrong = [f"{len(missing)} changes are missing, from {missing[0]} to {missing[-1]}"] if missing else []
    return wrong + ([f"{len(strange)} changes too many, from {strange[0]} to {strange[-1]}"] if strange else [])


def make_passing(server: Postgres, database: str) -> None:
    """A table that is there only for a while. Raises psycopg.OperationalError while somebody reads the one before."""
    with closing(psycopg.connect(server.url_of(database), autocommit=True)) as connection:
        connection.execute("SET lock_timeout = '1s'")
        connection.execute(f"DROP TABLE IF EXISTS {PASSING}")
        connection.execute(f"CREATE TABLE {PASSING} AS SELECT n, md5(n::text) FROM generate_series(1, 2000) n")


def drop_passing(server: Postgres, database: str) -> None:
    """In a thread of its own: it waits for whoever reads the table."""

    def drop() -> None:
        with (
            suppress(psycopg.Error),
            closing(psycopg.connect(server.url_of(database), autocommit=True)) as connection,
        ):
            connection.execute("SET lock_timeout = '20s'")
            connection.execute(f"DROP TABLE IF EXISTS {PASSING}")

    threading.Thread(target=drop, daemon=True).start()
