"""The manifest: what a backup is, in a JSON file beside its objects, written last.

A backup without one is half a backup and does not count. The catalog can be rebuilt from manifests alone
(`manage.py catalog --rebuild`), and a person can restore by one with stock tools (docs/restore-by-hand.md).

    format, made_by             "controlplane backup 1"
    environment, policy, kind   whose
    level, parent               "full", or "incremental" with the key of the backup it builds on
    key, operation              where, and by which operation
    as_of, started_at, finished_at, seconds, source_bytes
    objects                     [{"name", "size", "sha256", "version"}], names below key, the main one first
    key_id                      age recipient, "" for none
    facts                       by kind:
      database       server_version, tool_version, database, tables: [{"name": "public.users", "columns": "(id, name)",
                     "rows": 12, "hash": "…", "bytes": 3456}], large_objects: {"count", "hash"}
      pitr           server_version, tool_version, system_identifier, timeline, wal_start, wal_end, segment_bytes
      uploads        files, bytes, deleted, reused; the index object lists each file
      configuration  variables, secrets (how many)
      images         images: [{"service", "version", "digest", "reference"}]
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from backups.engines.base import Job, Taken
from backups.storage.base import Store
from controlplane.operations.errors import StepError

NAME = "manifest.json"
FORMAT = "controlplane backup 1"


def manifest_of(
    job: Job, taken: Taken, *, kind: str, operation: int, started_at: datetime, finished_at: datetime
) -> dict[str, Any]:
    """The manifest of what was just taken."""
    parent = job.parent["key"] if job.parent and taken.level == "incremental" else ""
    return {
        "format": FORMAT,
        "environment": job.environment,
        "policy": job.policy,
        "kind": kind,
        "level": taken.level,
        "parent": parent,
        "key": job.key,
        "operation": operation,
        "as_of": taken.as_of.isoformat(),
        "started_at": started_at.isoformat(),
        "finished_at": finished_at.isoformat(),
        "seconds": round((finished_at - started_at).total_seconds(), 3),
        "source_bytes": taken.source_bytes,
        "objects": [{**asdict(one), "name": one.key.removeprefix(job.key)} for one in taken.objects],
        "key_id": job.sealer.key_id,
        "facts": taken.facts,
    }


def encoded(manifest: Mapping[str, Any]) -> bytes:
    """As it stands in the storage."""
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()


def read_manifest(store: Store, key: str) -> dict[str, Any]:
    """The manifest of the backup at `key` (which ends with a slash). Raises StepError when it is none."""
    with store.open(key + NAME) as file:
        text = file.read()
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise StepError(f"{key}{NAME} is no JSON: {error}.", permanent=True) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("key") != key:
        raise StepError(f"{key}{NAME} is not the manifest of a backup that stands there.", permanent=True)
    return manifest


def problem_with_objects(store: Store, manifest: Mapping[str, Any]) -> str:
    """What the storage does not have in its full size, in words; "" when all is there."""
    for one in manifest["objects"]:
        entry = store.head(one["key"])
        if entry is None or entry.size != one["size"]:
            there = f"{entry.size} bytes" if entry else "nothing"
            return f"the storage has {there} at {one['key']}, where {one['size']} bytes were put."
    return ""


def time_of(manifest: Mapping[str, Any], name: str) -> datetime:
    """One of its times."""
    at = parse_datetime(str(manifest[name]))
    if at is None:
        raise StepError(f"The manifest of {manifest.get('key')} has no time {name}.", permanent=True)
    return at
