"""The folder of one local instance: what runs there, changed by one worker at a time and never by a late one.

    control.lock      flock, held by whoever changes something, for as long as the change takes
    fence             the highest fence that ever changed something here; a smaller one is refused
    process.lock      flock, taken by the worker that starts the process and inherited by the process itself
    wanted.json       what was started last; while process.lock is held, this is what runs
    instance.json     the process's own words, its pid among them; removed before each start
    out-of-rotation   while this file exists, /ready answers 503
    held.json         stopped on purpose, by a recovery say, and what ran last: only a start of a step lifts it
    service.log       what the process prints

1. A change takes control.lock, then compares its fence and writes it down, then acts. A worker that was frozen
   and wakes up late finds either its lock still held (nobody acted meanwhile) or a higher fence (it must not act).
2. process.lock is handed from the worker to the process without a gap, whoever dies when, so "free" means that
   nothing runs and nothing is about to. The kernel frees it when the process ends, however it ends.
3. A pid is used only while process.lock is held and through a pidfd, so it is never that of another process.
"""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from controlplane.operations.errors import LeaseLost, StepError

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 30.0  # for control.lock, which a change holds for moments
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL


class Hand(Protocol):
    """Who changes something: a step's context, or a person's command."""

    fence: int

    def check(self) -> None:
        """Raise LeaseLost when it may no longer act."""

    def wait(self, seconds: float) -> None:
        """Sleep, but stop at once when the lease is gone."""

    def log(self, text: str) -> None:
        """Say something to whoever watches."""


class InstanceFolder:
    """One instance. path: its folder, made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.marker = path / "out-of-rotation"

    # --- looking ------------------------------------------------------------------------------------

    @property
    def occupied(self) -> bool:
        """A process runs, or is about to."""
        try:
            descriptor = os.open(self.path / "process.lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(descriptor, fcntl.LOCK_SH)  # a shared look never keeps another looker out
        finally:
            os.close(descriptor)

    @property
    def wanted(self) -> dict[str, Any]:
        """What was started last and not stopped on purpose; empty for nothing."""
        return _read(self.path / "wanted.json")

    @property
    def pid(self) -> int | None:
        """The process, once it has said that it is up."""
        pid = _read(self.path / "instance.json").get("pid")
        return pid if isinstance(pid, int) else None

    @property
    def is_held(self) -> bool:
        """It was stopped on purpose: nobody but a step that was approved may start it again."""
        return (self.path / "held.json").exists()

    @property
    def ran_last(self) -> dict[str, Any]:
        """What runs, or ran when it was stopped on purpose: "version" and "digest"; empty where nobody knows."""
        return self.wanted or _read(self.path / "held.json")

    def runs(self, digest: str) -> bool:
        """Whether this release is up."""
        return self.pid is not None and self.occupied and self.wanted.get("digest") == digest

    @property
    def fence(self) -> int:
        """The highest fence that changed something here; 0 for none."""
        try:
            return int((self.path / "fence").read_text())
        except FileNotFoundError:
            return 0

    def last_words(self) -> str:
        """The last line that the process printed."""
        try:
            lines = (self.path / "service.log").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "it said nothing"
        return lines[-1] if lines else "it said nothing"

    # --- changing -----------------------------------------------------------------------------------

    @contextmanager
    def control(self, hand: Hand) -> Iterator[None]:
        """The right to change something, until the block ends. Raises LeaseLost for a late hand, StepError."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "control.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take(descriptor, hand)
            hand.check()
            known = self.fence
            if hand.fence < known:
                raise LeaseLost(f"{self.name}: fence {hand.fence} is too late, {known} was here")
            if hand.fence > known:
                _write(self.path / "fence", str(hand.fence))
            yield
        finally:
            os.close(descriptor)

    def start(
        self,
        hand: Hand,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        version: str,
        digest: str,
        configuration: str = "",
    ) -> bool:
        """Start a process, unless the release runs already; says whether it did. Call it under control.

        configuration: the fingerprint of the variables, kept beside the release. Raises StepError when another
        release runs.
        """
        if self.occupied:
            if self.wanted.get("digest") == digest:
                return False
            raise StepError(f"{self._what()} runs on {self.name}, so {version} is not started.", permanent=True)
        lock = os.open(self.path / "process.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not _within(1.0, hand, lambda: _locked(lock, fcntl.LOCK_EX)):
                raise StepError(f"Somebody is just looking at {self.name}.")
            (self.path / "instance.json").unlink(missing_ok=True)
            wanted = {"version": version, "digest": digest, "configuration": configuration}
            _write(self.path / "wanted.json", json.dumps(wanted))
            hand.check()
            self._spawn(command, variables, lock)
            self.let_go()
        finally:
            os.close(lock)
        return True

    def stop(self, hand: Hand, digest: str) -> float | None:
        """Stop this release, and no other, and wait until it has ended; returns the seconds, None if it did not run.

        Call it under control. Raises StepError when it does not end.
        """
        if not self.occupied:
            self._forget()
            return None
        if self.wanted.get("digest") != digest:
            return None
        begun = time.monotonic()
        if not _within(GRACE_SECONDS, hand, lambda: self.pid is not None or not self.occupied):
            raise StepError(f"The process of {self.name} has not said who it is; see {self.path / 'service.log'}.")
        for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
            hand.check()
            self._signal(number)
            if _within(patience, hand, lambda: not self.occupied):
                self._forget()
                return time.monotonic() - begun
            hand.log(f"{self.name}: did not end within {patience:g} s of {number.name}")
        raise StepError(f"{self._what()} on {self.name} (process {self.pid}) does not end.")

    def hold(self) -> None:
        """Keep it stopped from now on, and remember what runs. Call it under control."""
        _write(self.path / "held.json", json.dumps(self.ran_last))

    def let_go(self) -> None:
        """It is no longer to be kept stopped; a start does this by itself. Call it under control."""
        (self.path / "held.json").unlink(missing_ok=True)

    def ask_to_end(self, hand: Hand) -> bool:
        """Tell whatever runs to end, and do not wait for it; says whether anything runs. Call it under control."""
        if not self.occupied:
            return False
        hand.check()
        self._signal(signal.SIGTERM)
        return True

    def kill(self, hand: Hand) -> bool:
        """Kill whatever runs, as an accident would, and wait until it is gone; says whether anything ran."""
        if self.pid is None or not self.occupied:
            return False
        self._signal(signal.SIGKILL)
        _within(GRACE_SECONDS, hand, lambda: not self.occupied)
        return True

    def take_out(self) -> None:
        """Have /ready answer 503. Call it under control."""
        self.marker.touch()

    def put_back(self) -> None:
        """Have /ready answer 200 again. Call it under control."""
        self.marker.unlink(missing_ok=True)

    # --- inside -------------------------------------------------------------------------------------

    def _take(self, descriptor: int, hand: Hand) -> None:
        if _within(2.0, hand, lambda: _locked(descriptor, fcntl.LOCK_EX)):
            return
        hand.log(f"{self.name}: another worker is just changing it, waiting for its end")
        if not _within(PATIENCE_SECONDS, hand, lambda: _locked(descriptor, fcntl.LOCK_EX)):
            raise StepError(f"Another worker has been changing {self.name} for over {PATIENCE_SECONDS:g} s.")

    def _spawn(self, command: Sequence[str], variables: Mapping[str, str], lock: int) -> None:
        """Through a shell that leaves at once, so that the process is nobody's child and nobody's zombie."""
        with (self.path / "service.log").open("ab") as log:
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.path,
                env={"PATH": os.environ.get("PATH", os.defpath), **variables},
                pass_fds=[lock],
                start_new_session=True,
                check=True,
                timeout=GRACE_SECONDS,
            )

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            return
        if not hasattr(os, "pidfd_open"):  # not Linux: the lock alone says that the pid is still its own
            if self.occupied:
                os.kill(pid, number)
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.occupied:  # so it lived when the pidfd was opened, and the pidfd is its
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    def _forget(self) -> None:
        for name in ("wanted.json", "instance.json"):
            (self.path / name).unlink(missing_ok=True)

    def _what(self) -> str:
        return str(self.wanted.get("version", "something unknown"))


def _within(seconds: float, hand: Hand, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        hand.wait(POLL_SECONDS)
    return True


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, text: str) -> None:
    """Durable and whole: what is read after a crash is the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
