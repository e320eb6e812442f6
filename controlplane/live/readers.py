"""Threads that may use the database, for the event loop, which may not."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection, connections

P = ParamSpec("P")
T = TypeVar("T")


class Readers:
    """A few threads, each with a connection that it keeps: viewers are many, connections are dear."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in one of the threads. It must be safe to call twice: a lost connection is tried again."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: _call(lambda: function(*args, **kwargs))
        )

    def stop(self) -> None:
        """Take no more calls, and let the connections go once the last is done."""
        for _ in range(self._pool._max_workers):
            self._pool.submit(connections.close_all)
        self._pool.shutdown(wait=False)


def _call(function: Callable[[], T]) -> T:
    try:
        return function()
    except (OperationalError, InterfaceError):
        connections.close_all()
        return function()
    finally:
        # With a pool in the settings the connection is one of many people's, and giving it back costs nothing.
        if connection.settings_dict["OPTIONS"].get("pool"):
            connections.close_all()
