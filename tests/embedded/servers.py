"""Talking to the servers under test, each time on a connection that is closed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def query(url: str, statement: str) -> object:
    """The first value that `statement` gives, None if it gives nothing."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


@contextmanager
def redis_at(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), retries=0), socket_timeout=2) as client:
        yield client
