"""The file of the local name switch, changed by one worker at a time and never by a late one.

Whoever changes it takes names.lock, compares its fence with the one that the name's entry keeps, writes the whole file
beside its place and moves it there. A name that was taken away keeps its fence, so that nobody late brings it back.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings

from controlplane.embedded.name_switch import FILE, read_names
from controlplane.operations.errors import LeaseLost, StepError
from environments.drivers.local.instance_folder import Hand

Entry = dict[str, Any]
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 10.0


def entry_of(name: str) -> Entry:
    """What the file says of a name; empty for nothing. Raises StepError when it cannot be read."""
    return _read().get(name, {})


@contextmanager
def changing(name: str, hand: Hand) -> Iterator[Entry]:
    """The name's entry, to be changed in place; written when the block ends well. Raises LeaseLost, StepError."""
    try:
        lock = os.open(_folder() / "names.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StepError(f"{_folder()} cannot be written: {error.strerror}") from error
    try:
        _take(lock, hand)
        hand.check()
        entries = _read()
        entry = entries.setdefault(name, {})
        if hand.fence < entry.get("fence", 0):
            raise LeaseLost(f"{name}: fence {hand.fence} is too late, {entry['fence']} was here")
        before = json.dumps(entries, sort_keys=True)
        yield entry
        entry["fence"] = hand.fence
        if json.dumps(entries, sort_keys=True) != before:
            hand.check()
            _write(entries)
    finally:
        os.close(lock)


def _folder() -> Path:
    return Path(settings.DATA_DIR).absolute()


def _read() -> dict[str, Entry]:
    found = read_names(_folder())
    if found is None and (_folder() / FILE).exists():
        raise StepError(f"{_folder() / FILE} cannot be read; mend it, or take it away and start bin/run again.")
    return found or {}


def _take(lock: int, hand: Hand) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                words = f"Another worker has been changing {FILE} for over {PATIENCE_SECONDS:g} s."
                raise StepError(words) from None
        hand.wait(POLL_SECONDS)


def _write(entries: dict[str, Entry]) -> None:
    path = _folder() / FILE
    draft = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        with draft.open("w") as file:
            json.dump(entries, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise StepError(f"{path} cannot be written: {error.strerror}") from error
