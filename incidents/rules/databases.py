"""Looking at databases, for rules such as the guide's db_connections == 0.

1. Claim what is due in one short statement, so that two clocks never look at the same one twice.
2. Connect and count, all at the same time, with no transaction of ours open and with an end to every wait.
3. Keep what was found for a day, and ring.
"""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Timer
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.models.functions import Now

from backups.programs import Server
from controlplane.live.ring import ring
from controlplane.operations.errors import StepError
from controlplane.operations.events import storable
from incidents.models import DatabaseSample

AT_ONCE = 20
THREADS = 8
CONNECT_SECONDS = 3
PATIENCE_SECONDS = 5.0
KEEP = timedelta(hours=24)
BATCH = 5000
# What we are connected by ourselves begins like this (backups/programs.py), and is not counted: the guide's rule asks
# whether anybody else is.
OWN = "controlplane"
NAME = f"{OWN} probe"
LONGEST_WORDS = 300

CLAIM = """
    UPDATE incidents_databaseprobe SET due_at = clock_timestamp() + make_interval(secs => interval_seconds)
    WHERE id IN (
        SELECT id FROM incidents_databaseprobe WHERE due_at <= clock_timestamp()
        ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
    RETURNING environment_id, reference
"""
# Whoever may not see what others do still sees that they are there, and under which name.
COUNT = """
    SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND NOT starts_with(application_name, %s)
        AND coalesce(backend_type, 'client backend') = 'client backend'
"""


@dataclass(frozen=True)
class Question:
    """One database to look at."""

    environment: int
    reference: str


def probe_due() -> int:
    """Look at the databases whose time has come; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [AT_ONCE])
        questions = [Question(*row) for row in cursor.fetchall()]
    if not questions:
        return 0
    with ThreadPoolExecutor(min(THREADS, len(questions)), thread_name_prefix="database") as pool:
        found = list(pool.map(look, questions))
    with transaction.atomic():
        DatabaseSample.objects.bulk_create(found)
        transaction.on_commit(lambda: ring("news", "health"))
    return len(questions)


def look(question: Question) -> DatabaseSample:
    """Count the connections of one database; the row is not saved.

    Where nobody listens nobody is connected: that is 0. A database that cannot be asked for another reason (a wrong
    password, no answer in time) may be well: that is not known.
    """
    sample = DatabaseSample(environment_id=question.environment)
    try:
        sample.connections, sample.most = _count(Server.at(question.reference))
        sample.words = f"{sample.connections} connections of {sample.most}"
    except (StepError, psycopg.Error) as error:
        said = " ".join(str(error).split())
        sample.words = storable(said)[:LONGEST_WORDS]
        if "Connection refused" in said:
            sample.connections = 0
    return sample


def _count(server: Server) -> tuple[int, int]:
    options = {"connect_timeout": CONNECT_SECONDS, "application_name": NAME, "autocommit": True}
    with server.connect(**options) as session, _ends(session):
        row = session.execute(COUNT, [OWN]).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


@contextmanager
def _ends(session: "psycopg.Connection[Any]") -> Iterator[None]:
    """A server that stopped in the middle of an answer must not keep the clock: its connection is cut."""
    wire = socket.socket(fileno=socket.dup(session.fileno()))
    timer = Timer(PATIENCE_SECONDS, _cut, [wire])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        wire.close()


def _cut(wire: socket.socket) -> None:
    with suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)


def forget_old() -> int:
    """Delete samples older than a day, some thousand at a time; returns how many."""
    forgotten = 0
    while True:
        old = DatabaseSample.objects.filter(at__lt=Now() - KEEP).values("pk")[:BATCH]
        deleted, _ = DatabaseSample.objects.filter(pk__in=old).delete()
        forgotten += deleted
        if deleted < BATCH:
            return forgotten
