"""The bell: tells every web process that a topic has something new.

It is best effort. What rang is in PostgreSQL before the bell is heard, and a web process that hears nothing looks
by itself, so a lost ring costs a moment and never a line.
"""

import logging
import threading
import time
from functools import cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)

CHANNEL = "live"
NEWS = "news"
TIMEOUT_SECONDS = 0.1  # once to connect, once to publish
SILENCE_SECONDS = 1.0  # after a failure nobody tries
COMPLAINT_SECONDS = 60.0


class Bell:
    """The ringing side of one process: never raises, and costs nothing while Redis is away."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self._complained_at = -COMPLAINT_SECONDS

    def ring(self, topic: str, text: str = "") -> None:
        """Publish "topic text" to whoever listens."""
        if time.monotonic() < self._silent_until:
            return
        try:
            self._redis.publish(CHANNEL, f"{topic} {text}")
        except (redis.RedisError, OSError) as error:
            self._failed(error)

    def answers(self) -> bool:
        """Whether Redis is there, found out within 0.2 s; not asked again for a second after a failure."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            return bool(self._redis.ping())
        except (redis.RedisError, OSError) as error:
            self._failed(error)
            return False

    def _failed(self, error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            self._silent_until = now + SILENCE_SECONDS
            if now - self._complained_at < COMPLAINT_SECONDS:
                return
            self._complained_at = now
        logger.warning("Redis cannot be reached, so pages update by polling until it is back: %s", error)


@cache
def _bell(url: str) -> Bell:
    return Bell(url)


def redis_answers() -> bool:
    """Whether it is worth while to try anything with Redis now."""
    return _bell(settings.REDIS_URL).answers()


def ring(topic: str, text: str = "") -> None:
    """Say that `topic` has something new; call it with `transaction.on_commit`.

    Topics are "<prefix>/<key>" of a source, with the number of the newest row as text (or none, if something
    else of it changed), and "news", with the words for what changed. Takes at most 0.2 s and never raises.
    """
    _bell(settings.REDIS_URL).ring(topic, text)
