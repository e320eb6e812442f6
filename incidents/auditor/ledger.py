"""Alarms and signs of life, as rows: the auditor's own SQL on `incidents_auditoralarm` and `incidents_auditorbeat`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection

AT_ONCE = 100

RAISE = """
    INSERT INTO incidents_auditoralarm (key, words, raised_at) VALUES (%s, %s, clock_timestamp())
    ON CONFLICT (key) WHERE over_at IS NULL DO NOTHING
"""
OPEN = "SELECT id, key, words, raised_at FROM incidents_auditoralarm WHERE over_at IS NULL ORDER BY id"
OVER = "UPDATE incidents_auditoralarm SET over_at = clock_timestamp() WHERE id = ANY(%s) AND over_at IS NULL"
UNTOLD = """
    SELECT id, key, words, raised_at FROM incidents_auditoralarm
    WHERE told_at IS NULL AND (over_at IS NULL OR raised_at > clock_timestamp() - interval '1 hour')
    ORDER BY id LIMIT %s
"""
TOLD = "UPDATE incidents_auditoralarm SET told_at = clock_timestamp() WHERE id = ANY(%s) AND told_at IS NULL"
BEAT = """
    INSERT INTO incidents_auditorbeat (name, beat_at) VALUES (%s, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET beat_at = clock_timestamp()
"""
FORGET = "DELETE FROM incidents_auditorbeat WHERE beat_at < clock_timestamp() - interval '1 day'"


@dataclass(frozen=True)
class Alarm:
    """An alarm as it is stored."""

    id: int
    key: str
    words: str
    raised_at: datetime


def settle(connection: Connection[Any], found: Mapping[str, str], kept: Collection[str] = ()) -> list[Alarm]:
    """Raise what was found and is not yet raised, end what was not found again; returns those that ended.

    found: words by key. kept: beginnings of keys that stay, since nobody knows: what could not be looked at.
    """
    with connection.transaction():
        for key, words in found.items():
            connection.execute(RAISE, [key[:200], words])
        known = {key[:200] for key in found}
        ended = [
            one for one in _alarms(connection, OPEN, []) if one.key not in known and not one.key.startswith(tuple(kept))
        ]
        connection.execute(OVER, [[one.id for one in ended]])
    return ended


def untold(connection: Connection[Any]) -> list[Alarm]:
    """What our own channel has not taken yet; also what was over before anybody heard of it."""
    return _alarms(connection, UNTOLD, [AT_ONCE])


def told(connection: Connection[Any], alarms: Collection[Alarm]) -> None:
    """Our own channel took them."""
    connection.execute(TOLD, [[one.id for one in alarms]])


def beat(connection: Connection[Any], name: str) -> None:
    """Say that this auditor has just had a good look."""
    connection.execute(BEAT, [name])
    connection.execute(FORGET)


def _alarms(connection: Connection[Any], query: str, values: list[Any]) -> list[Alarm]:
    return [Alarm(*row) for row in connection.execute(query, values).fetchall()]
