"""Threads that may use the database, for the event loop, which may not."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, connection, connections

P = ParamSpec("P")
T = TypeVar("T")

STOP_SECONDS = 2.0


class Readers:
    """A few threads, each with a connection that it keeps: viewers are many, connections are dear."""

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in one of the threads.

        It must be safe to call twice: with a connection that turns out to be lost, it is called again with a new one.
        """
        future: Future[T] = Future()

        def job() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(_call(lambda: function(*args, **kwargs)))
                except BaseException as error:  # noqa: BLE001  it is raised where the result is awaited
                    future.set_exception(error)

        self._jobs.put(job)
        return await asyncio.wrap_future(future)

    async def stop(self) -> None:
        """Let the threads end, and with each its connection."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, STOP_SECONDS)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        connections.close_all()


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
