"""Keeping what was said: a row for each alert of a source, many of them in four statements.

New rows first, then locks on those that were known, each in the order of their keys: so handlers that work at the
same time wait for each other and never in a circle. What a person wrote is in columns that are not touched here.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import dropwhile
from typing import Any

from django.db import connection, transaction

from controlplane.live.ring import ring
from environments.models import Environment
from incidents.intake.said import LONGEST_NAME, LONGEST_TEXT, Said, clean, clean_labels
from incidents.intake.turns import Standing, first

Key = tuple[int, str]  # source, fingerprint
Row = tuple[Any, ...]  # as HOLD selects it

STANDING = {
    "state": "text", "started_at": "timestamptz", "last_at": "timestamptz", "ended_at": "timestamptz", "count": "int",
    "turns": "int", "turns_since": "timestamptz", "flapping_until": "timestamptz", "due_at": "timestamptz",
    "acknowledge_at": "timestamptz",
}  # fmt: skip
TEXTS = {
    "name": "text", "severity": "text", "environment_id": "bigint", "summary": "text", "url": "text",
    "labels": "jsonb", "annotations": "jsonb",
}  # fmt: skip


def _rows(columns: Mapping[str, str]) -> str:
    """Rows as one JSON document, which costs much less to write than an array for each column."""
    return f"json_to_recordset(%s::json) AS now ({', '.join(f'{name} {kind}' for name, kind in columns.items())})"


def _same(columns: Iterable[str]) -> str:
    return ", ".join(columns)


KEYS = {"source_id": "bigint", "fingerprint": "text"}
FOUND = f"""
    FROM incidents_alert AS alert JOIN {_rows(KEYS)}
        ON alert.source_id = now.source_id AND alert.fingerprint = now.fingerprint
"""
KNOWN = f"SELECT alert.source_id, alert.fingerprint {FOUND}"
HOLD = f"""
    SELECT alert.source_id, alert.fingerprint, alert.id, {_same(f"alert.{name}" for name in STANDING)}
    {FOUND} ORDER BY alert.source_id, alert.fingerprint FOR UPDATE OF alert
"""
INSERT = f"""
    INSERT INTO incidents_alert ({_same((*KEYS, *STANDING, *TEXTS))}, heard, note, note_by_name)
    SELECT now.*, '', '', '' FROM {_rows(KEYS | STANDING | TEXTS)}
    ON CONFLICT (source_id, fingerprint) DO NOTHING RETURNING source_id, fingerprint
"""  # noqa: S608
# told: the texts are those of a new message.
UPDATE = f"""
    UPDATE incidents_alert AS alert SET {_same(f"{name} = now.{name}" for name in STANDING)},
        {_same(f"{name} = CASE WHEN now.told THEN now.{name} ELSE alert.{name} END" for name in TEXTS)}
    FROM {_rows({"id": "bigint", "told": "boolean"} | STANDING | TEXTS)} WHERE alert.id = now.id
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
    held = _held(by_key)
    if held is None:
        known = _known(by_key)
        # What only ends something, and comes before anything that began, is about nothing.
        begun = {key: list(dropwhile(lambda one: one.known_only, by_key[key])) for key in by_key.keys() - known}
        known |= _insert({key: said for key, said in begun.items() if said}, texts)
        held = _hold(known)
    _update(held, by_key, texts)
    transaction.on_commit(lambda: ring("news", "alerts"))
    return len(by_key)


class _Texts:
    """The columns of a message's texts."""

    def __init__(self, homes: Mapping[int, int | None]) -> None:
        self._homes = homes
        self._environments = dict(Environment.objects.values_list("slug", "pk"))

    def of(self, source_id: int, said: Said) -> dict[str, Any]:
        return {
            "name": clean(said.name, LONGEST_NAME),
            "severity": said.severity,
            "environment_id": self._environments.get(said.environment) or self._homes[source_id],
            "summary": clean(said.summary, LONGEST_TEXT),
            "url": clean(said.url, LONGEST_TEXT),
            "labels": clean_labels(said.labels),
            "annotations": clean_labels(said.annotations),
        }


def _known(keys: Iterable[Key]) -> set[Key]:
    """Which of these alerts are known already."""
    with connection.cursor() as cursor:
        cursor.execute(KNOWN, [_json([_key(key) for key in sorted(keys)])])
        return set(cursor.fetchall())


def _insert(by_key: Mapping[Key, list[Said]], texts: _Texts) -> set[Key]:
    """Write down new alerts; returns those that another handler was first with: they are known by now."""
    if not by_key:
        return set()
    rows = []
    for key in sorted(by_key):
        begin, *others = by_key[key]
        standing = first(begin)
        for said in others:
            standing.hear(said)
        latest = next(one for one in reversed([begin, *others]) if not one.known_only)
        rows.append(_key(key) | _values(standing) | texts.of(key[0], latest))
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [_json(rows)])
        return by_key.keys() - set(cursor.fetchall())


def _held(keys: Collection[Key]) -> list[Row] | None:
    """All of these alerts, locked. None, and no lock is held, when one of them is not known yet: it comes first."""
    before = transaction.savepoint()
    rows = _hold(keys)
    if len(rows) == len(keys):
        transaction.savepoint_commit(before)
        return rows
    transaction.savepoint_rollback(before)
    return None


def _hold(keys: Iterable[Key]) -> list[Row]:
    """Those of them that are known, locked in the order of their keys."""
    with connection.cursor() as cursor:
        cursor.execute(HOLD, [_json([_key(key) for key in sorted(keys)])])
        return list(cursor.fetchall())


def _update(held: Iterable[Row], by_key: Mapping[Key, list[Said]], texts: _Texts) -> None:
    """Take in what is about alerts that are locked."""
    rows = []
    for source_id, fingerprint, pk, *values in held:
        standing = Standing(**dict(zip(STANDING, values, strict=True)))
        for said in by_key[source_id, fingerprint]:
            standing.hear(said)
        latest = standing.latest
        told = latest is not None and not latest.known_only
        rows.append({
            "id": pk, "told": told, **_values(standing),
            **(texts.of(source_id, latest) if latest is not None and told else {}),
        })  # fmt: skip
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(UPDATE, [_json(rows)])


def _key(key: Key) -> dict[str, Any]:
    return dict(zip(KEYS, key, strict=True))


def _values(standing: Standing) -> dict[str, Any]:
    return {name: getattr(standing, name) for name in STANDING}


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, default=datetime.isoformat)
