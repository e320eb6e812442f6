"""Small files of the data folder: JSON that only its owner may read, always whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """What `path` holds; empty if there is no such file, or if a crash left it unreadable."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_private_json(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` in one step, readable by its owner only (mode 0600)."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)


def last_lines(log: Path, count: int = 10) -> str:
    """The end of a log, for a message to a person."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except OSError as error:
        return f"({log}: {error.strerror})"
