"""journal.jsonl: what was meant, done and said, one line each, only ever added to, each line holding the one before.

A line is on the disk before what it announces is begun, so that whoever kills the run anywhere can start it again.
"""

import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backups.disaster.kit.script.errors import Broken, Ended

Entry = dict[str, Any]
GENESIS = "0" * 64
LONGEST_JOURNAL = 8 * 1024 * 1024  # bytes


def hash_of(entry: Entry) -> str:
    """The SHA-256 of everything in an entry but its hash; the one before is part of it."""
    rest = {name: value for name, value in entry.items() if name != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def entries_of(content: bytes) -> list[Entry]:
    """The entries of a journal, checked. A last line that was cut off never was one. Raises Broken, in words."""
    if len(content) > LONGEST_JOURNAL:
        raise Broken("This is larger than any journal.")
    entries: list[Entry] = []
    previous = GENESIS
    for number, line in enumerate(content.split(b"\n")[:-1]):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise Broken(f"Line {number + 1} of the journal is not JSON.") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("data"), dict):
            raise Broken(f"Line {number + 1} of the journal is no entry.")
        if any(not isinstance(entry.get(name), str) for name in ("at", "kind", "step", "words")):
            raise Broken(f"Line {number + 1} of the journal is no entry.")
        if entry.get("n") != number or entry.get("previous") != previous or entry.get("hash") != hash_of(entry):
            raise Broken(f"Line {number + 1} of the journal does not follow from the one before: it was changed.")
        previous = entry["hash"]
        entries.append(entry)
    return entries


class Journal:
    """The journal of one run, open for adding to; nobody else may have it open. Raises Broken, Ended."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Ended(f"Another recover.py is at work with {path}. Look for it before anything else.") from None
        content = path.read_bytes()
        self.entries = entries_of(content)
        if not content.endswith(b"\n"):  # killed in the middle of a line: it was never acted upon
            os.ftruncate(self._file, content.rfind(b"\n") + 1)
        _sync_folder(path)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)

    def add(self, kind: str, step: str, words: str, **data: Any) -> Entry:
        """Write an entry; it is on the disk when this returns."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        previous = self.entries[-1]["hash"] if self.entries else GENESIS
        entry: Entry = {"n": len(self.entries), "at": at, "kind": kind, "step": step, "words": words, "data": data}
        entry["previous"] = previous
        entry["hash"] = hash_of(entry)
        line = memoryview(json.dumps(entry, sort_keys=True).encode() + b"\n")
        while line:
            line = line[os.write(self._file, line) :]
        os.fsync(self._file)
        self.entries.append(entry)
        return entry

    def last(self, kind: str, step: str = "") -> Entry | None:
        """The newest entry of a kind, of one step or of any; None for none."""
        for entry in reversed(self.entries):
            if entry["kind"] == kind and step in ("", entry["step"]):
                return entry
        return None


def _sync_folder(path: Path) -> None:
    """A name is on the disk only when its folder is."""
    descriptor = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
