"""Uploads in two folders of this machine: for the demo, and for volumes that every worker has mounted.

path                    of each side; a relative one is below DATA_DIR
lag_minutes, …          see `mending.COMMON`
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backups.disaster.base import NOT_READY, READY, UNKNOWN, Check, Part, Side
from backups.disaster.uploads.comparing import File, Proof
from backups.disaster.uploads.known import missing_check
from backups.disaster.uploads.mending import COMMON, Ends, check_common, mend_part, own_of, steps_of
from backups.engines.beneath import Beneath, Vanished
from backups.engines.sources import FolderSource, Found, LeftOut, check_source, folder_of
from controlplane.operations.errors import StepError
from controlplane.operations.registry import StepFunction

MODE = 0o644


class FolderUploads:
    """See `base.Uploads`."""

    kind = "folder"

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = steps_of(self.kind, ends)

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """See the top of this file."""
        wrong = check_common(given)
        paths = []
        for side in ("primary", "standby"):
            own = own_of(given, side)
            wrong |= {f"{side}.{key}": "is no setting of a folder" for key in own.keys() - {"path", *COMMON}}
            if words := check_source({"folder": own.get("path")}).get("source.folder"):
                wrong[f"{side}.path"] = words
            else:
                paths.append(str(own["path"]).rstrip("/"))
        if len(paths) == 2 and (f"{paths[0]}/".startswith(f"{paths[1]}/") or f"{paths[1]}/".startswith(f"{paths[0]}/")):
            wrong["standby.path"] = "has to be another folder, not within the other one"
        return wrong

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Both folders can be read, and nothing is missing at the target."""
        return [_there(source, target), missing_check(source, target)]

    def mend(self, source: Side, target: Side) -> Part:
        """Bring over what is missing, as far as the source can be read. The plan goes on without it: see `mending`."""
        return mend_part(self.kind, source, target)


def ends(source: Side, target: Side) -> Ends:
    """Both folders. Nothing is opened yet."""
    ours, theirs = FolderPlace(source), FolderPlace(target)
    return Ends(ours, theirs, _FolderCopier(ours, theirs), ())


class FolderPlace:
    """See `comparing.Place`. Files whose names are no UTF-8 are left out: no bucket could take them either."""

    def __init__(self, side: Side) -> None:
        self.path = folder_of({"folder": side.settings["path"]})
        # Below DATA_DIR there is no volume that could be missing: a folder that is not there has no files yet.
        self.ours = not Path(side.settings["path"]).is_absolute()

    def files(self, after: str) -> Iterator[File]:
        """A folder is listed from its beginning: what is before is only looked at."""
        start = after.encode()
        if self._is_to_come():
            return
        with FolderSource(self.path) as folder:
            for found in folder.files(LeftOut()):
                if found.name > start and (name := _text(found.name)):
                    yield File(name, found.size, found.modified_ns)

    def proof(self, name: str) -> Proof:
        """A folder says no more."""
        return Proof()

    def ask(self) -> None:
        """Raises StepError when the folder is not there."""
        if not self._is_to_come():
            with FolderSource(self.path):
                pass

    def _is_to_come(self) -> bool:
        return self.ours and not Path(self.path).exists()


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return ""


class _FolderCopier:
    """See `walking.Copier`."""

    def __init__(self, source: FolderPlace, target: FolderPlace) -> None:
        self._source, self._target = source, target

    def copy(self, here: File, there: File | None, check: Callable[[], None], begun: Callable[[], None]) -> bool:
        """It appears whole or not at all, with the time of its source: the next comparison finds it the same."""
        name = here.name.encode()
        with FolderSource(self._source.path) as source, Beneath(self._target.path, make=self._target.ours) as target:
            try:
                found = source.again(name)
            except Vanished:
                return False
            if found.modified_ns != here.modified_ns or _is_newer(target, found):
                return False
            try:
                target.write(
                    name, source.read(found), mode=found.mode or MODE, modified_ns=found.modified_ns, check=check
                )
            except Vanished as error:
                words = f"{target.path}/{here.name} cannot be written: a file or a link stands where a folder belongs."
                raise StepError(words, permanent=True) from error
        return True

    def is_large(self, here: File) -> bool:
        """None is: what is not whole yet has a name of its own."""
        return False

    def unfinished(self) -> list[list[str]]:
        """Under a name that no listing shows."""
        return []

    def abandon(self, uploads: list[list[str]]) -> None:
        """Nothing."""


def _is_newer(target: Beneath, found: Found) -> bool:
    """Looked at right before it is written over."""
    try:
        return target.look(found.name).st_mtime_ns > found.modified_ns
    except Vanished:
        return False


def _there(source: Side, target: Side) -> Check:
    title = "Uploads can be read"
    for side, outcome in ((target, NOT_READY), (source, UNKNOWN)):
        try:
            FolderPlace(side).ask()
        except StepError as error:
            return Check("uploads-there", title, outcome, f"{side.environment}: {error}")
    return Check("uploads-there", title, READY, f"{FolderPlace(source).path} and {FolderPlace(target).path}")
