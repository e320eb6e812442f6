"""One data folder has one holder at a time.

The lock is the kernel's (`flock`), so it ends with the process that has it, however that ends. The file's content
only tells people who it is.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StackError
from .files import read_json, write_private_json


class HeldError(StackError):
    """Somebody else holds the data folder."""


@contextmanager
def hold(data: Path, purpose: str) -> Iterator[None]:
    """Hold `data` for the length of the block; `purpose` is what the next person will read.

    Raises HeldError, which names the holder.
    """
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(describe(data)) from None
        write_private_json(
            data / "holder.json",
            {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"), "purpose": purpose},
        )
        yield
    finally:
        os.close(lock)


def describe(data: Path) -> str:
    holder = read_json(data / "holder.json")
    if not holder:
        return f"{data} is in use by a process that is just starting or stopping. Try again in a moment."
    return (
        f"{data} is in use by process {holder['pid']} ({holder['purpose']}) since {holder['since']}. "
        f"Stop it with Ctrl-C or `kill {holder['pid']}`, or choose another folder with --data."
    )
