"""Hands a recovering server the WAL files it asks for, out of the storage, one after another and a few ahead.

The server's restore_command is a shell script that cannot reach the storage, and should not: it leaves a note with
the name of the file and waits. `serve()`, called again and again by whoever waits for the recovery, reads the notes
and puts the file there, or a note that there is none. So the disk holds a few segments, however many are needed.
"""

from collections.abc import Mapping
from shlex import quote
from typing import Any

import zstandard

from backups.scratch import Scratch
from backups.sealing import Sealer
from backups.storage.base import Store
from backups.wal_segments import SEGMENT, Segment, StoredFile, folder_of, key_of, stored_file
from controlplane.operations.errors import StepError

AHEAD = 3
READ_BYTES = 1024 * 1024

SCRIPT = """#!/bin/sh
# restore_command: asks for the WAL file $1, waits for it, and moves it to $2.
folder=$(dirname -- "$0")
: > "$folder/$1.draft" && mv "$folder/$1.draft" "$folder/$1.wanted" || exit 200
while [ ! -e "$folder/$1" ]; do
    [ ! -e "$folder/$1.missing" ] || exit 1
    sleep 0.02
done
mv "$folder/$1" "$2"
"""


class Supply:
    """prefix: of the policy. manifest: of the base that recovery begins with. empty: there is to be no WAL."""

    def __init__(
        self, scratch: Scratch, store: Store, sealer: Sealer, *, prefix: str, manifest: Mapping[str, Any], empty: bool
    ) -> None:
        self.segment_bytes = int(manifest["facts"]["segment_bytes"])
        self.served = 0
        self.furthest = -1  # the number of the last segment that was handed over
        self.total = 0  # about as many as there are to serve
        self.missing = ""  # the last segment that was asked for in vain
        self._scratch = scratch
        self._store = store
        self._sealer = sealer
        self._key_id = sealer.key_id or str(manifest["key_id"])
        self._prefix = prefix
        self._empty = empty
        self._listed: dict[str, dict[str, StoredFile]] = {}
        self._ahead: list[str] = []
        self._folder = scratch.folder("wal")
        (self._folder / "fetch").write_text(SCRIPT)

    @property
    def command(self) -> str:
        """For restore_command."""
        return f"/bin/sh {quote(str(self._folder / 'fetch'))} %f %p"

    def begin(self) -> None:
        """Forget what an earlier start of the server asked for."""
        for path in self._folder.iterdir():
            if path.name != "fetch":
                path.unlink()
        self._ahead = []
        self.missing = ""
        self.furthest = -1

    def serve(self) -> bool:
        """Answer what is asked for, else fetch one that will be; whether there was anything to do."""
        wanted = sorted(self._folder.glob("*.wanted"))
        for note in wanted:
            name = note.name.removesuffix(".wanted")
            note.unlink()
            self._answer(name)
        if not wanted and self._ahead:
            name = self._ahead.pop(0)
            file = self._find(name)
            if file is not None and not (self._folder / name).exists():
                self._fetch(file)
                return True
        return bool(wanted)

    def last(self, timeline: int) -> int:
        """The number of the last segment there is of a timeline, or of its beginning; -1 for none."""
        names = self._of(f"{timeline:08X}")
        return Segment.named(max(names), self.segment_bytes).number if names else -1

    def _answer(self, name: str) -> None:
        file = self._find(name)
        if file is None:
            if SEGMENT.fullmatch(name):
                self.missing = name
            self._put(name + ".missing")
            return
        if not (self._folder / name).exists():
            self._fetch(file)
        if SEGMENT.fullmatch(name):
            segment = Segment.named(name, self.segment_bytes)
            self.served += 1
            self.furthest = max(self.furthest, segment.number)
            self.total = self.served + self.last(segment.timeline) - segment.number
            following = [Segment(segment.timeline, segment.number + step) for step in range(1, AHEAD + 1)]
            self._ahead = [one.name(self.segment_bytes) for one in following]

    def _find(self, name: str) -> StoredFile | None:
        if self._empty:
            return None
        return self._of(name[:8]).get(name) if SEGMENT.fullmatch(name) else self._history(name)

    def _history(self, name: str) -> StoredFile | None:
        for suffix in ("", ".age"):
            key = key_of(self._prefix, name, suffix)
            if self._store.head(key) is not None:
                return StoredFile(key, name, None)
        return None

    def _of(self, timeline: str) -> dict[str, StoredFile]:
        """The best of what there is of each segment of a timeline."""
        if timeline not in self._listed:
            best: dict[str, StoredFile] = {}
            for entry in self._store.list(folder_of(self._prefix, timeline + "0" * 16)):
                file = stored_file(entry.key, self._prefix)
                if file is not None and _is_better(file, best.get(file.name)):
                    best[file.name] = file
            self._listed[timeline] = best
        return self._listed[timeline]

    def _fetch(self, file: StoredFile) -> None:
        try:
            self._copy(file)
        except StepError:
            # Meanwhile a longer beginning, or the whole segment, may have taken its place.
            self._listed.clear()
            again = self._find(file.name)
            if again is None or again == file:
                raise
            self._copy(again)

    def _copy(self, file: StoredFile) -> None:
        draft = self._folder / f"{file.name}.part"
        try:
            with (
                self._store.open(file.key) as stored,
                self._sealer.unseal(stored, self._key_id if file.is_sealed else "") as opened,
                draft.open("wb") as target,
            ):
                _, size = zstandard.ZstdDecompressor().copy_stream(opened, target, write_size=READ_BYTES)
                if SEGMENT.fullmatch(file.name):
                    if size != (self.segment_bytes if file.length is None else file.length):
                        raise StepError(f"{file.key} is damaged: it has {size} bytes.", permanent=True)
                    target.truncate(self.segment_bytes)
        except zstandard.ZstdError as error:
            raise StepError(f"{file.key} is damaged: {error}.", permanent=True) from error
        except OSError as error:
            raise StepError(f"{file.key} cannot be written into {self._folder}: {error.strerror}.") from error
        self._scratch.place.own(draft)
        draft.rename(self._folder / file.name)

    def _put(self, name: str) -> None:
        path = self._folder / name
        path.touch()
        self._scratch.place.own(path)


def _is_better(one: StoredFile, other: StoredFile | None) -> bool:
    """Whole before the beginning of it, and a longer beginning before a shorter one."""
    if other is None or other.length is None:
        return other is None
    return one.length is None or one.length > other.length
