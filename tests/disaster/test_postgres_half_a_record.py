"""A primary that dies in the middle of a record leaves half of it at the standby: nothing that anybody waits for."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backups.disaster.databases import postgres_standby
from backups.disaster.databases.postgres_server import asked, following
from backups.disaster.databases.postgres_standby import RECEIVED, _caught_up
from backups.models import RecoveryPlan
from tests.disaster.clusters import DATABASE, Pair, pair, until
from tests.disaster.paper import plan, world
from tests.disaster.test_postgres_failover import real, servant
from tests.disaster.test_postgres_holes import Hand, standby

__all__ = ["pair", "plan", "real", "servant", "world"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

RECORD = 4_000_000  # bytes: much more than PostgreSQL sends at once


class Narrow:
    """The way from the primary to its standby; `left` bytes still get through, then it breaks for good."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.left: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.left = 0
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.left is not None:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(65_536):
                if counted and self.left is not None:
                    block = block[: self.left]
                    self.left -= len(block)
                sink.sendall(block)
                if self.left == 0:
                    break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if counted:
            source.close()
            sink.close()


@pytest.fixture
def narrow(pair: Pair) -> Iterator[Narrow]:
    """The standby follows by it."""
    made = Narrow(cast("int", pair.primary.port))
    pair.standby.stop()
    pair.standby.leader = cast("Any", SimpleNamespace(port=made.port))
    pair.standby.start()
    until(lambda: (stand := following(standby(pair))) is not None and stand.streams)
    yield made
    made.close()


def test_half_a_record_is_not_waited_for(
    real: RecoveryPlan, pair: Pair, narrow: Narrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_standby, "EXHAUSTED_SECONDS", 0.5)
    narrow.left = RECORD // 4
    pair.on(pair.primary, DATABASE, f"SELECT pg_logical_emit_message(false, 'long', repeat('x', {RECORD}))")
    until(lambda: narrow.left == 0)
    pair.primary.stop()
    until(lambda: (stand := following(standby(pair))) is not None and not stand.streams)
    server, hand = standby(pair), Hand()
    assert asked(server, RECEIVED) == (False,), "something was received that is not replayed"

    def caught_up() -> bool:
        return _caught_up(hand, database="file:standby", environment="dr", source="production").outcome == "passed"

    assert not caught_up(), "it may come in a moment"
    until(caught_up)


def test_a_standby_that_still_streams_is_waited_for(
    real: RecoveryPlan, pair: Pair, narrow: Narrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as somebody sends, what is missing may come."""
    monkeypatch.setattr(postgres_standby, "EXHAUSTED_SECONDS", 0.0)
    server, hand = standby(pair), Hand()
    until(lambda: asked(server, RECEIVED) == (True,))
    assert not any(postgres_standby._is_exhausted(hand, server) for _ in range(5))
