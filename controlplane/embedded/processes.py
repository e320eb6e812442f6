"""Starting, finding and stopping processes, also those that a killed supervisor left behind."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from .errors import StackError

PROC = Path("/proc")
POLL_SECONDS = 0.02
# Below the ports that the system gives to outgoing connections: one of those could take the port of a server that is
# just being restarted.
PORTS = range(20_000, 32_000)
PORT_ATTEMPTS = 200
_given: dict[int, None] = {}  # in the order they were given out


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` for at most `seconds`; whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def spawn(
    command: list[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    account: tuple[int, int] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, so that Ctrl-C reaches the supervisor only.

    Output is appended to `log`. `account` is the (uid, gid) to run as, None for the present one.
    """
    user, group = account or (None, None)
    with log.open("ab") as output:
        try:
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=None if account is None else [],
            )
        except OSError as error:
            raise StackError(f"Cannot start {command[0]}: {error.strerror}.") from error


def stop(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float, hurry: Event | None = None) -> None:
    """Send `number`, wait for at most `seconds` (or until `hurry` is set), then kill what is left of its session."""
    if process.poll() is None:
        process.send_signal(number)
    wait_until(lambda: process.poll() is not None or (hurry is not None and hurry.is_set()), seconds)
    kill_session(process.pid)
    process.wait()


@dataclass(frozen=True)
class Process:
    """A row of /proc: `started` is in clock ticks since the computer started, which tells reused numbers apart."""

    pid: int
    name: str
    session: int
    started: int


def look(pid: int) -> Process | None:
    """The living process `pid`, or None if it ended (a zombie has ended)."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    if fields[0] in "ZX":
        return None
    return Process(pid, name, session=int(fields[3]), started=int(fields[19]))


def everybody() -> Iterable[Process]:
    """All living processes that this one can see; none on a system without /proc."""
    for entry in PROC.glob("[0-9]*"):
        process = look(int(entry.name))
        if process is not None:
            yield process


def free_port(preferred: int | None = None, *, together: int = 1) -> int:
    """`preferred` if it is free on 127.0.0.1, else another port that is; with so many ports from it on.

    Nobody holds a port until it is listened on, so one that was given out is given to nobody else in this process,
    until no other is left.
    """
    wanted = [] if preferred is None else [preferred]
    fresh = [port for port in PORTS if _given.keys().isdisjoint(range(port, port + together))]
    # Never in an order that another process has too.
    fresh = random.SystemRandom().sample(fresh, min(PORT_ATTEMPTS, len(fresh)))
    for port in [*wanted, *fresh, *_given]:
        ports = range(port, port + together)
        if all(map(_is_free, ports)):
            _given.update(dict.fromkeys(ports))
            return port
    raise StackError("There is no free port on 127.0.0.1. Stop some programs, then start again.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def working_in(folder: Path, name: str) -> list[int]:
    """Processes called `name` whose working directory is `folder`, which the servers make their data folder."""
    return [process.pid for process in everybody() if process.name == name and directory_of(process.pid) == folder]


def directory_of(pid: int) -> Path | None:
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def boot() -> str:
    """Which start of the computer this is: process numbers and their ticks mean nothing after the next."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def members_of_session(leader: int, started: int) -> list[int]:
    """Who lives in the session that process `leader` began at `started`, even if the leader itself is gone.

    The number of a session is not given to a new process while it has members.
    """
    now = look(leader)
    if now is not None and now.started != started:
        return []  # the session ended, and its number is somebody else's now
    return [process.pid for process in everybody() if process.session == leader and process.started >= started]


def kill_session(leader: int) -> None:
    """Kill whatever still lives in the session that `leader` began."""
    for process in everybody():
        if process.session == leader:
            send(process.pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def end(pids: Iterable[int], number: signal.Signals, seconds: float) -> None:
    """Stop processes that are not our children: `number`, a bounded wait, then SIGKILL."""
    pids = list(pids)
    for step in (number, signal.SIGKILL):
        for pid in pids:
            send(pid, step)
            send(pid, signal.SIGCONT)  # a frozen process would never see the other one
        if wait_until(lambda: not any(look(pid) for pid in pids), seconds):
            return
    raise StackError(f"Processes {pids} of an earlier start do not end. Stop them by hand, then start again.")
