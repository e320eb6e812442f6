"""The folder in which pg_receivewal puts what it receives, until it is in the storage; and that process.

pg_receivewal goes on after the newest file it finds in its folder. So where to begin is said by what is in there:
the segments that are not in the storage yet, or else an empty beginning of the one that is wanted.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backups.programs import Server, program
from backups.wal_segments import HISTORY, SEGMENT, Segment
from controlplane.embedded.errors import StackError
from controlplane.embedded.files import last_lines
from controlplane.embedded.processes import end, spawn, stop, working_in
from controlplane.operations.errors import StepError

PROGRAM = "pg_receivewal"
PARTIAL = ".partial"
LOG = "log"
STOP_SECONDS = 5.0


class Spool:
    """folder: of one policy's archive. size: of a segment, in bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder.resolve()
        self.size = size
        self.process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        try:
            # A killed receiver leaves it running, and two would write the same files.
            end(working_in(self.folder, PROGRAM), signal.SIGTERM, STOP_SECONDS)
        except StackError as error:
            raise StepError(str(error)) from error

    def prepare(self, start: Segment) -> None:
        """Keep what follows on `start` without a gap, and let the next file to be received be the right one."""
        following = start
        for segment in self.whole():
            if segment == following:
                following = Segment(start.timeline, following.number + 1)
        partial = self.partial_path(following)
        kept = {Segment(start.timeline, number).name(self.size) for number in range(start.number, following.number)}
        for path in self._files():
            if path.name not in kept and path not in (partial, self.folder / LOG) and not HISTORY.fullmatch(path.name):
                path.unlink()
        if following == start or partial.exists():
            partial.touch()
            if partial.stat().st_size != self.size:
                os.truncate(partial, 0)  # killed while it was made: only none or all of its length is accepted

    def whole(self) -> list[Segment]:
        """The segments that have arrived, in order."""
        names = [path.name for path in self._files() if SEGMENT.fullmatch(path.name)]
        return sorted(map(self._segment, names), key=lambda one: (one.timeline, one.number))

    def histories(self) -> list[Path]:
        """The history files of timelines that have arrived."""
        return sorted(path for path in self._files() if HISTORY.fullmatch(path.name))

    def path(self, segment: Segment) -> Path:
        """Of a segment that has arrived."""
        return self.folder / segment.name(self.size)

    def partial_path(self, segment: Segment) -> Path:
        """Of a segment that is just being received."""
        return self.folder / (segment.name(self.size) + PARTIAL)

    @contextmanager
    def receiving(self, source: Server, name: str) -> Iterator[None]:
        """Let pg_receivewal run for the length of the block. name: of its connection, for people on the server."""
        (self.folder / LOG).unlink(missing_ok=True)
        # Without a slot of its own: what the slot keeps on the server must be what is not in the storage yet, not what
        # has not reached this folder.
        command = [program(PROGRAM), "-D", str(self.folder), "--no-loop", "--synchronous", "--no-password",
                   "--status-interval=5"]  # fmt: skip
        try:
            self.process = spawn(
                command, log=self.folder / LOG, cwd=self.folder, env={**source.environment(), "PGAPPNAME": name}
            )
        except StackError as error:
            raise StepError(str(error)) from error
        try:
            yield
        finally:
            stop(self.process, signal.SIGTERM, STOP_SECONDS)
            self.process = None

    def ended(self) -> bool:
        """Whether pg_receivewal ended by itself."""
        return self.process is None or self.process.poll() is not None

    def last_words(self) -> str:
        """What pg_receivewal said last, in one line."""
        return " ".join(last_lines(self.folder / LOG, 2).split())

    def received(self) -> tuple[Segment, int] | None:
        """The segment that is being written, and how many bytes of it are; None in between, or where nobody can say."""
        if self.process is None:
            return None
        descriptors = Path("/proc") / str(self.process.pid) / "fd"
        try:
            for descriptor in descriptors.iterdir():
                path = descriptor.readlink()
                name = path.name.removesuffix(PARTIAL)
                if path.parent == self.folder and path.name != name and SEGMENT.fullmatch(name):
                    said = (descriptors.with_name("fdinfo") / descriptor.name).read_text().split()
                    return self._segment(name), int(said[said.index("pos:") + 1])
        except (OSError, ValueError):
            return None  # it closed the file just then, or it ended
        return None

    def _segment(self, name: str) -> Segment:
        return Segment.named(name, self.size)

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())
