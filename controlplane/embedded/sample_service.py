"""The sample HTTP service that the local driver deploys: one real process for each instance.

It is started as `python -I -S sample_service.py --state-dir DIR --name NAME --port PORT --version V --digest D`
and uses the standard library only, so that a start takes a few hundredths of a second.

1. It locks DIR/instance.lock for as long as it lives. While another process holds the lock it leaves with 75 and
   nothing counts as started.
2. It binds 127.0.0.1:PORT. If that fails it leaves with 69, and nothing counts as started.
3. It appends a "start" line to DIR/effects.log and writes DIR/instance.json. The effects are counted by whoever
   judges the control plane, so they are written by the service and never by the control plane.
4. It answers /health (200, or --health-status), /ready (503 while the file DIR/out-of-rotation exists) and /version.
   With --fail-percent N so many in a hundred of all else are answered 500: only its numbers tell that it is bad.
5. On SIGTERM it appends a "stop" line, answers what it had accepted, and leaves with 0.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import os
import select
import signal
import socket
import threading
import time
from pathlib import Path

EXIT_UNAVAILABLE = 69
EXIT_LOCKED = 75
REQUEST_LIMIT = 16_384
GRACE_SECONDS = 0.08

REASONS = {
    200: "OK", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


def now() -> str:
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


class Instance:
    """One running instance: what it is, what it writes down, and what it answers."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.state_dir
        self.started_at = now()
        self._asked = itertools.count(1)

    def lock(self) -> bool:
        """True if this process is now the instance; the lock ends with the process, however it ends."""
        self._lock = os.open(self.folder / "instance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def record_effect(self, event: str) -> None:
        """Append one line with one write, which no crash and no second writer can tear."""
        options = self.options
        line = json.dumps(
            {
                "at": now(),
                "event": event,
                "name": options.name,
                "version": options.version,
                "digest": options.digest,
                "pid": os.getpid(),
                "operation": options.operation,
                "fence": options.fence,
                "step": options.step,
            }
        )
        log = os.open(self.folder / "effects.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(log, line.encode() + b"\n")
        finally:
            os.close(log)

    def write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "name": self.options.name,
            "version": self.options.version,
            "digest": self.options.digest,
            "port": self.options.port,
            "started_at": self.started_at,
        }
        draft = self.folder / f"instance.json.{os.getpid()}"
        draft.write_text(json.dumps(state))
        draft.rename(self.folder / "instance.json")

    def answer(self, path: str) -> tuple[int, dict[str, object]]:
        """The status and the JSON body of a GET."""
        options = self.options
        identity: dict[str, object] = {"name": options.name, "version": options.version}
        match path:
            case "/health":
                status = options.health_status
                return status, {"status": "ok" if status == 200 else "unhealthy", **identity}
            case "/ready":
                ready = not (self.folder / "out-of-rotation").exists()
                return (200 if ready else 503), {"status": "ready" if ready else "out of rotation", **identity}
            case _ if self.fails():
                return 500, {"error": "this release fails now and then", **identity}
            case "/version":
                return 200, {**identity, "digest": options.digest, "pid": os.getpid(), "since": self.started_at}
            case _:
                return 404, {"error": f"there is no {path}; ask for /health, /ready or /version"}

    def fails(self) -> bool:
        """Whether this is one of those in a hundred, which are spread evenly."""
        number, percent = next(self._asked), self.options.fail_percent
        return bool(number * percent // 100 > (number - 1) * percent // 100)


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def respond(connection: socket.socket, instance: Instance) -> None:
    """Read one request from `connection`, answer it, and close."""
    with connection:
        connection.settimeout(5)
        try:
            request = b""
            while b"\r\n\r\n" not in request and len(request) < REQUEST_LIMIT:
                received = connection.recv(4096)
                if not received:
                    return
                request += received
            method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
            path = rest.partition(" ")[0].partition("?")[0]
            if method in ("GET", "HEAD"):
                status, content = instance.answer(path)
            else:
                status, content = 405, {"error": f"{method} is not offered; use GET"}
            body = json.dumps(content).encode()
            head = (
                f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            connection.sendall(head.encode() + (b"" if method == "HEAD" else body))
        except OSError:
            return  # the client went away, which is its own business


def accept_all(listener: socket.socket, instance: Instance) -> list[threading.Thread]:
    """Start a thread for each connection that waits to be accepted."""
    threads: list[threading.Thread] = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return threads
        thread = threading.Thread(target=respond, args=(connection, instance), daemon=True)
        thread.start()
        threads.append(thread)


def serve(listener: socket.socket, wake: socket.socket, instance: Instance) -> None:
    """Answer until a signal arrives on `wake`, then answer what was accepted and return."""
    threads: list[threading.Thread] = []
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while wake.fileno() not in dict(poll.poll()):
        threads = [thread for thread in threads if thread.is_alive()] + accept_all(listener, instance)
    instance.record_effect("stop")
    threads += accept_all(listener, instance)
    listener.close()
    deadline = time.monotonic() + GRACE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The sample service: /health, /ready and /version on loopback.")
    parser.add_argument("--state-dir", type=Path, required=True, help="an existing folder, one for each instance")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--digest", required=True)
    parser.add_argument("--health-status", type=int, default=200, help="what /health answers")
    parser.add_argument("--fail-percent", type=int, default=0, help="of all requests but those about its health")
    parser.add_argument("--operation", default="", help="who caused this start, for effects.log")
    parser.add_argument("--fence", default="")
    parser.add_argument("--step", default="")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run one instance until SIGTERM; the exit status is 0, 69 (port taken) or 75 (already running)."""
    options = parse(arguments)
    instance = Instance(options)
    if not instance.lock():
        print(f"{options.name} is already running in {options.state_dir}", flush=True)
        return EXIT_LOCKED
    wake, notify = socket.socketpair()
    notify.setblocking(False)
    signal.set_wakeup_fd(notify.fileno())
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # the byte on `wake` is what is acted on
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        listener = listen(options.port)
    except OSError as error:
        print(f"{options.name} cannot use port {options.port}: {error.strerror}", flush=True)
        return EXIT_UNAVAILABLE
    instance.record_effect("start")
    instance.write_state()
    serve(listener, wake, instance)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
