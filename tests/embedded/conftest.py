"""Data folders in which servers can be started, and which leave nothing behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.embedded.place import discard


@pytest.fixture
def spacious() -> Iterator[Path]:
    """A folder that every account may enter, as pytest's own are for root only."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-"))
    folder.chmod(0o755)
    yield folder
    for servers in folder.rglob("servers"):
        discard(servers.resolve())
    shutil.rmtree(folder)


@pytest.fixture
def data(spacious: Path) -> Path:
    return spacious / "var"
