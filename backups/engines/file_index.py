"""The index of an uploads backup: every file of one moment, in the order of the bytes of its name.

It is JSON with a file a line, so that it is written and read a line at a time, and `zstd -dc | jq` reads it too:

    {"format": "controlplane files 1", "suffix": ".1a2b3c4d.age", "files": [
    {"path": "a/b.png", "size": 12, "sha256": "…", "modified": "2026-11-24T10:00:00.123456789Z", "mode": "644", …}
    ]}

The content of a file is the object `files/<first two of sha256>/<sha256><suffix>` below the policy's prefix. A name
that is no UTF-8 stands as "path_base64" instead. mark: what the source showed of the file, "" where that is no proof
that it has not changed since. stored: bytes in the storage.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backups.engines.contents import Lines, lines_in, opened, suffix_for
from backups.sealing import Sealer
from backups.storage.base import Store
from controlplane.operations.errors import StepError

FORMAT = "controlplane files 1"
INDEX = "index.json.zst"
END = b"]}"
SHA256 = re.compile(r"[0-9a-f]{64}")
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Indexed:
    """One file. modified_ns: nanoseconds since 1970. mode: of a folder's file, as the system has it."""

    name: bytes
    size: int
    sha256: str
    modified_ns: int
    mode: int | None
    mark: str
    stored: int


class IndexWriter:
    """Puts the lines of an index together. Files have to come in order."""

    def __init__(self, lines: Lines, key_id: str) -> None:
        self._lines = lines
        self._held = json.dumps({"format": FORMAT, "suffix": suffix_for(key_id), "files": []})[: -len(END)]
        self._separator = ""

    def add(self, one: Indexed) -> None:
        """Add a file."""
        self._lines.add(self._held + self._separator)
        self._held, self._separator = json.dumps(_written(one), ensure_ascii=False), ","

    def end(self) -> None:
        """No file follows."""
        self._lines.add(self._held)
        self._lines.add(END.decode())


def read_index(store: Store, manifest: Mapping[str, Any], sealer: Sealer) -> Iterator[Indexed]:
    """The files of a backup, in order. Raises StepError when the index is damaged or cannot be opened."""
    with opened(store, manifest, manifest["objects"][0]["name"]) as stored:
        lines = lines_in(sealer.unseal(stored, manifest["key_id"]))
        if f'"{FORMAT}"'.encode() not in next(lines, b""):
            raise _damaged(manifest)
        last, before = b"", b""
        for line in lines:
            last = line
            if line != END:
                one = _read(line, manifest)
                if one.name <= before:
                    raise _damaged(manifest)
                before = one.name
                yield one
    if last != END:
        raise _damaged(manifest)


def _written(one: Indexed) -> dict[str, Any]:
    try:
        name = {"path": one.name.decode()}
    except UnicodeDecodeError:
        name = {"path_base64": b64encode(one.name).decode()}
    seconds, rest = divmod(one.modified_ns, SECOND)
    modified = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
    values = {**name, "size": one.size, "sha256": one.sha256, "modified": modified}
    if one.mode is not None:
        values["mode"] = f"{one.mode:o}"
    return {**values, "mark": one.mark, "stored": one.stored}


def _read(line: bytes, manifest: Mapping[str, Any]) -> Indexed:
    try:
        values = json.loads(line.removesuffix(b","))
        name = values["path"].encode() if "path" in values else b64decode(values["path_base64"], validate=True)
        one = Indexed(
            name, int(values["size"]), values["sha256"], _nanoseconds(values["modified"]),
            int(values["mode"], 8) if "mode" in values else None, str(values["mark"]), int(values["stored"]),
        )  # fmt: skip
        if not SHA256.fullmatch(one.sha256):
            raise ValueError(one.sha256)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(manifest) from error
    return one


def _nanoseconds(text: str) -> int:
    seconds, _, rest = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * SECOND + int(rest)


def _damaged(manifest: Mapping[str, Any]) -> StepError:
    return StepError(f"The index of {manifest['key']} is not one, or not whole.", permanent=True)
