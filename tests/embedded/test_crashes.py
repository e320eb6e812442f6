"""After `kill -9` of anything or everything, the next start works and has kept what was written."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.embedded.place import CHECKOUT
from controlplane.embedded.processes import everybody, wait_until, working_in
from controlplane.embedded.stack import Stack

from .servers import query, redis_at

HOLDER = """
import sys, signal
from pathlib import Path
from controlplane.embedded.stack import Stack
with Stack(Path(sys.argv[1]), environ={}) as stack:
    print(stack.env["DATABASE_URL"], stack.env["REDIS_URL"], flush=True)
    signal.pause()
"""


def start_and_write(data: Path) -> subprocess.Popen[str]:
    """A process that runs the servers of `data`, in which something was written."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert holder.stdout is not None
    with holder.stdout as output:
        database, broker = output.readline().split()
    query(database, "CREATE TABLE kept AS SELECT 42 AS answer")
    with redis_at(broker) as client:
        client.config_set("appendfsync", "always")
        client.set("kept", "42")
    return holder


def servers(data: Path) -> list[int]:
    home = (data / "servers").resolve()
    return [*working_in(home / "postgres", "postgres"), *working_in(home / "redis", "redis-server")]


def assert_kept(stack: Stack) -> None:
    assert query(stack.env["DATABASE_URL"], "SELECT answer FROM kept") == 42
    with redis_at(stack.env["REDIS_URL"]) as client:
        assert client.get("kept") == b"42"


def test_servers_of_a_killed_supervisor_are_replaced_on_the_same_ports(data: Path) -> None:
    holder = start_and_write(data)
    holder.kill()
    holder.wait()
    orphans = servers(data)
    assert orphans, "the servers live on when only their supervisor is killed"
    with Stack(data, environ={}) as stack:
        assert_kept(stack)
        assert not set(orphans) & {process.pid for process in everybody()}
        first = stack.env
    with Stack(data, environ={}) as stack:
        assert stack.env == first


def test_everything_killed(data: Path) -> None:
    holder = start_and_write(data)
    holder.kill()
    holder.wait()
    for pid in servers(data):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it left when PostgreSQL's first process went
    assert wait_until(lambda: not servers(data), 30)
    with Stack(data, environ={}) as stack:
        assert_kept(stack)


def test_frozen_servers_do_not_block_the_next_start(data: Path) -> None:
    holder = start_and_write(data)
    holder.kill()
    holder.wait()
    for pid in servers(data):
        os.kill(pid, signal.SIGSTOP)
    with Stack(data, environ={}) as stack:
        assert_kept(stack)


def test_a_stale_process_number_that_somebody_else_has_now(data: Path) -> None:
    with Stack(data, durable=False, environ={}) as stack:
        assert stack.postgres is not None
        stale = stack.postgres.folder / "postmaster.pid"
        stack.postgres.stop(signal.SIGKILL)
        assert stale.exists(), "a killed PostgreSQL leaves the file"
        stale.write_text("\n".join([str(os.getpid()), *stale.read_text().splitlines()[1:]]) + "\n")
        stack.postgres.start()
        assert stack.postgres.answers()


def test_a_port_that_somebody_took_is_replaced(data: Path) -> None:
    with Stack(data, durable=False, environ={}) as stack:
        assert stack.redis is not None
        port = stack.redis.port
    with socket.create_server(("127.0.0.1", port)), Stack(data, durable=False, environ={}) as stack:
        assert stack.redis is not None
        assert stack.redis.port != port
        assert stack.redis.answers()


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_restart_keeps_address_and_content(data: Path, server: str) -> None:
    with Stack(data, environ={}) as stack:
        query(stack.env["DATABASE_URL"], "CREATE TABLE kept AS SELECT 42 AS answer")
        with redis_at(stack.env["REDIS_URL"]) as client:
            client.set("kept", "42")
        getattr(stack, server).restart()
        assert_kept(stack)
