"""Keeping what was said: a row for each alert of a source, many of them in four statements.

Rows are locked in the order of their keys, so that handlers that work at the same time wait for each other and never
in a circle. What a person wrote is in columns that are not touched here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import Any

from django.db import connection, transaction

from controlplane.live.ring import ring
from environments.models import Environment
from incidents.intake.said import Said
from incidents.intake.turns import Standing, first

Key = tuple[int, str]  # source, fingerprint

KNOWN = """
    SELECT alert.source_id, alert.fingerprint, alert.id, alert.state, alert.started_at, alert.last_at, alert.ended_at,
        alert.count, alert.turns, alert.turns_since, alert.flapping_until, alert.due_at,
        alert.acknowledge_at
    FROM incidents_alert AS alert
    JOIN unnest(%s::bigint[], %s::text[]) AS wanted (source_id, fingerprint)
        ON alert.source_id = wanted.source_id AND alert.fingerprint = wanted.fingerprint
    ORDER BY alert.source_id, alert.fingerprint FOR UPDATE OF alert
"""
STANDING = (
    "state", "started_at", "last_at", "ended_at", "count", "turns", "turns_since", "flapping_until", "due_at",
    "acknowledge_at",
)  # fmt: skip
TYPES = {
    "state": "text", "started_at": "timestamptz", "last_at": "timestamptz", "ended_at": "timestamptz", "count": "int",
    "turns": "int", "turns_since": "timestamptz", "flapping_until": "timestamptz", "due_at": "timestamptz",
    "acknowledge_at": "timestamptz",
    "name": "text", "severity": "text", "environment_id": "bigint", "summary": "text", "url": "text",
    "labels": "jsonb", "annotations": "jsonb",
}  # fmt: skip
TEXTS = ("name", "severity", "environment_id", "summary", "url", "labels", "annotations")


def _columns(names: Iterable[str]) -> str:
    return ", ".join(names)


def _arrays(names: Iterable[str]) -> str:
    return ", ".join(f"%s::{TYPES[name]}[]" for name in names)


INSERT = f"""
    INSERT INTO incidents_alert
        (source_id, fingerprint, {_columns(STANDING)}, {_columns(TEXTS)}, heard, note, note_by_name)
    SELECT said.*, '', '', '' FROM unnest(%s::bigint[], %s::text[], {_arrays((*STANDING, *TEXTS))}) AS said
    ON CONFLICT (source_id, fingerprint) DO NOTHING RETURNING source_id, fingerprint
"""  # noqa: S608 (names of columns, all of them above)
UPDATE = f"""
    UPDATE incidents_alert AS alert SET {_columns(f"{name} = now.{name}" for name in STANDING)}
    FROM unnest(%s::bigint[], {_arrays(STANDING)}) AS now (id, {_columns(STANDING)}) WHERE alert.id = now.id
"""  # noqa: S608
UPDATE_TEXTS = f"""
    UPDATE incidents_alert AS alert SET {_columns(f"{name} = now.{name}" for name in TEXTS)}
    FROM unnest(%s::bigint[], {_arrays(TEXTS)}) AS now (id, {_columns(TEXTS)})
    WHERE alert.id = now.id AND ({_columns(f"alert.{name}" for name in TEXTS)})
        IS DISTINCT FROM ({_columns(f"now.{name}" for name in TEXTS)})
"""  # noqa: S608


@dataclass
class Heard:
    """What one source said, in the order of receipt. environment_id: where its alerts belong that name none."""

    source_id: int
    environment_id: int | None
    said: list[Said] = field(default_factory=list)


def keep(heard: Iterable[Heard]) -> int:
    """Take all of it in, in the caller's transaction; returns how many alerts it was about."""
    by_key: dict[Key, list[Said]] = {}
    homes: dict[int, int | None] = {}
    for one in heard:
        homes[one.source_id] = one.environment_id
        for said in one.said:
            by_key.setdefault((one.source_id, said.fingerprint), []).append(said)
    if not by_key:
        return 0
    texts = _Texts(homes)
    new = _update(by_key, texts)
    while new:
        # Some may have been inserted by another handler in between: they are known by now.
        known = _insert(new, texts)
        new = _update(known, texts) if known else {}
    transaction.on_commit(lambda: ring("news", "alerts"))
    return len(by_key)


class _Texts:
    """The columns of a message's texts."""

    def __init__(self, homes: Mapping[int, int | None]) -> None:
        self._homes = homes
        self._environments = dict(Environment.objects.values_list("slug", "pk"))

    def of(self, source_id: int, said: Said) -> tuple[Any, ...]:
        home = self._environments.get(said.environment) or self._homes[source_id]
        labels, annotations = (json.dumps(one, ensure_ascii=False) for one in (said.labels, said.annotations))
        return said.name, str(said.severity), home, said.summary, said.url, labels, annotations


def _update(by_key: Mapping[Key, list[Said]], texts: _Texts) -> dict[Key, list[Said]]:
    """Take in what is about known alerts; returns the rest."""
    left = dict(by_key)
    known: list[tuple[int, Key, Standing]] = []
    with connection.cursor() as cursor:
        cursor.execute(KNOWN, _keys(sorted(by_key)))
        for source_id, fingerprint, pk, *values in cursor.fetchall():
            standing = Standing(**dict(zip(STANDING, values, strict=True)))
            for said in left.pop((source_id, fingerprint)):
                standing.hear(said)
            known.append((pk, (source_id, fingerprint), standing))
        if known:
            cursor.execute(UPDATE, _transposed([(pk, *_values(standing)) for pk, _, standing in known]))
        told = [
            (pk, *texts.of(key[0], standing.latest))
            for pk, key, standing in known
            if standing.latest is not None and not standing.latest.known_only
        ]
        if told:
            cursor.execute(UPDATE_TEXTS, _transposed(told))
    # What only ends something, and comes before anything that began, is about nothing.
    begun = {key: list(dropwhile(lambda one: one.known_only, said)) for key, said in left.items()}
    return {key: said for key, said in begun.items() if said}


def _insert(by_key: Mapping[Key, list[Said]], texts: _Texts) -> dict[Key, list[Said]]:
    """Write down new alerts; returns those that another handler was first with."""
    rows = []
    for key in sorted(by_key):
        begin, *others = by_key[key]
        standing = first(begin)
        for said in others:
            standing.hear(said)
        latest = next(one for one in reversed([begin, *others]) if not one.known_only)
        rows.append((*key, *_values(standing), *texts.of(key[0], latest)))
    with connection.cursor() as cursor:
        cursor.execute(INSERT, _transposed(rows))
        written = set(cursor.fetchall())
    return {key: said for key, said in by_key.items() if key not in written}


def _values(standing: Standing) -> tuple[Any, ...]:
    return tuple(getattr(standing, name) for name in STANDING)


def _keys(keys: Iterable[Key]) -> list[list[Any]]:
    return _transposed(list(keys))


def _transposed(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
