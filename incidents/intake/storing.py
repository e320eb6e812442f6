"""Storing bodies: one INSERT, committed before the sender hears of it.

Bodies that come at the same time go in with the same INSERT, so that eight senders cost two commits and not eight.
One thread with one connection does it; it also reads the sources, so that strangers cannot take connections from
people.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, connection

INSERT = """
    INSERT INTO incidents_rawalert (source_id, body)
    SELECT source_id, body FROM unnest(%b::bigint[], %b::bytea[]) WITH ORDINALITY AS given (source_id, body, position)
    ORDER BY position RETURNING id
"""
BODIES_AT_ONCE = 100
BYTES_AT_ONCE = 4 * 2**20
BYTES_WAITING_AT_MOST = 32 * 2**20

Result = TypeVar("Result")


class Full(Exception):
    """More is waiting to be stored than may be kept in memory."""


@dataclass(slots=True)
class _Waiting:
    source: int
    body: bytes
    stored: asyncio.Future[int]


class Store:
    """The storing thread of one process. Its methods belong to one event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._storing: asyncio.Task[None] | None = None

    async def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in the thread, which has the connection."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _with_connection, function)

    async def put(self, source: int, body: bytes) -> int:
        """Store a body; returns its number once that is committed. Raises Full, or DatabaseError: it is not stored."""
        if self._bytes + len(body) > BYTES_WAITING_AT_MOST:
            raise Full
        one = _Waiting(source, body, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._bytes += len(body)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_all())
        return await one.stored

    async def _store_all(self) -> None:
        while self._waiting:
            batch = self._batch()
            try:
                rows = [(one.source, one.body) for one in batch]
                numbers = await self.run(lambda rows=rows: store(rows))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 (each sender hears that it was not stored)
                for one in batch:
                    _settle(one.stored, error)
            else:
                for one, number in zip(batch, numbers, strict=True):
                    _settle(one.stored, number)

    def _batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < BODIES_AT_ONCE:
            if batch and size + len(self._waiting[0].body) > BYTES_AT_ONCE:
                break
            batch.append(self._waiting.popleft())
            size += len(batch[-1].body)
        self._bytes -= size
        return batch


def _settle(stored: "asyncio.Future[int]", outcome: int | Exception) -> None:
    if stored.done():
        return  # its sender has gone
    if isinstance(outcome, Exception):
        stored.set_exception(outcome)
    else:
        stored.set_result(outcome)


def store(rows: list[tuple[int, bytes]]) -> list[int | Exception]:
    """Insert bodies with one statement, which commits by itself; their numbers, in the same order.

    If that is refused (the source of one was removed just now), each is tried by itself.
    """
    try:
        return list(_insert(rows))
    except (OperationalError, InterfaceError, psycopg.OperationalError):
        raise
    except (DatabaseError, psycopg.DatabaseError) as error:
        if len(rows) == 1:
            return [error]
        return [outcome for row in rows for outcome in store([row])]


def _insert(rows: list[tuple[int, bytes]]) -> list[int]:
    connection.ensure_connection()
    # Django's cursors write parameters into the statement as text; a body is better sent as it is.
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(INSERT, [[source for source, _ in rows], [body for _, body in rows]])
        return [row[0] for row in cursor.fetchall()]


def _with_connection(function: Callable[[], Result]) -> Result:
    """With a connection that works: one that was closed while nobody used it is opened again, once."""
    was_open = connection.connection is not None
    try:
        return function()
    except (OperationalError, InterfaceError, psycopg.OperationalError):
        connection.close()
        if not was_open:
            raise
    try:
        return function()
    except (OperationalError, InterfaceError, psycopg.OperationalError):
        connection.close()
        raise
