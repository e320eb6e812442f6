"""Ringing is heard when Redis is there, and costs nothing when it is not."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis
from django.conf import settings
from pytest_django import Settings

from controlplane.live.ring import CHANNEL, Bell, ring


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers, as a frozen Redis does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def closed_port() -> int:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_who_listens_hears_the_topic_and_the_text() -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        assert subscription.get_message(timeout=5)
        ring("operations/214", "57")
        ring("news", "inbox health")
        heard = [subscription.get_message(timeout=5) for _ in range(2)]
    assert [message["data"] for message in heard if message] == [b"operations/214 57", b"news inbox health"]


def test_a_frozen_redis_holds_nobody_up(silent: socket.socket) -> None:
    """It is given up soon, and then not asked again for a while."""
    bell = Bell(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
    bell.ring("news")
    assert callers(silent) == 1
    bell._silent_until += 3600
    for _ in range(1000):
        bell.ring("news")
    assert not bell.answers()
    assert callers(silent) == 0
    bell._silent_until = 0.0
    assert not bell.answers()
    assert callers(silent) == 1


def callers(server: socket.socket) -> int:
    """How many have connected since it was last asked."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_a_lost_redis_is_complained_about_once(closed_port: int, caplog: pytest.LogCaptureFixture) -> None:
    bell = Bell(f"redis://127.0.0.1:{closed_port}/0")
    for _ in range(3):
        bell.ring("news")
        bell._silent_until = 0.0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "polling until it is back" in caplog.text


def test_after_the_silence_it_rings_again(closed_port: int) -> None:
    bell = Bell(f"redis://127.0.0.1:{closed_port}/0")
    bell.ring("news")
    bell._silent_until += 3600
    bell._redis = redis.Redis.from_url(settings.REDIS_URL)
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        assert subscription.get_message(timeout=5)
        bell.ring("news", "too early")
        bell._silent_until = time.monotonic()
        bell.ring("news", "heard")
        message = subscription.get_message(timeout=5)
    assert message
    assert message["data"] == b"news heard"


def test_it_rings_where_the_settings_say(settings: Settings, closed_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{closed_port}/0"
    ring("news", "nobody hears this")
