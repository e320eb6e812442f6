"""Throw-away servers: private, quick, and gone for sure, also after a worker was killed."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from backups.scratch import Scratch, place, remove_leftovers, server_program, working_below
from controlplane.embedded.place import discard
from controlplane.embedded.processes import wait_until
from controlplane.operations.errors import StepError

# Killed in the middle of its work: it says that its server runs, and never ends by itself.
WORKER = """
import django, time
django.setup()
from backups.scratch import Scratch
scratch = Scratch(7, 1)
scratch.open()
scratch.initialise()
scratch.start(time.sleep)
print(scratch.socket, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _place(data_dir: Path) -> Iterator[None]:
    yield
    if (data_dir / "servers").exists():
        discard((data_dir / "servers").resolve())


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    scratch = Scratch(7, 2)
    scratch.open()
    yield scratch
    scratch.remove()


def killed_worker() -> Path:
    """The socket's folder of what a worker left that was killed."""
    environment = {**os.environ, "DATA_DIR": str(settings.DATA_DIR), "DJANGO_SETTINGS_MODULE": "controlplane.settings"}
    with subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        folder = Path(worker.stdout.readline().strip())
        worker.kill()
    return folder


def test_it_works_and_only_its_account_gets_in(scratch: Scratch) -> None:
    scratch.initialise()
    scratch.start(time.sleep)
    with scratch.server().connect() as connection:
        row = connection.execute(
            "SELECT current_setting('listen_addresses'), current_setting('server_encoding'),"
            " (SELECT datcollate FROM pg_database WHERE datname = 'postgres')"
        ).fetchone()
    assert row == ("", "UTF8", "C.UTF-8")
    for folder in (scratch.home, scratch.socket):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    scratch.stop()
    assert not working_below(scratch.home) and scratch.data.is_dir()


def test_removed_means_nothing_is_left(scratch: Scratch) -> None:
    scratch.initialise()
    scratch.start(time.sleep)
    socket = scratch.socket
    scratch.remove()
    assert not working_below(scratch.home)
    assert not scratch.home.exists() and not socket.exists()
    with pytest.raises(StepError, match="not there any more"):
        scratch.server()


def test_the_next_turn_removes_what_a_killed_worker_left() -> None:
    socket = killed_worker()
    left = Scratch(7, 1)
    assert working_below(left.home) and socket.exists()
    scratch = Scratch(7, 2)
    scratch.open()
    assert not working_below(left.home) and not left.home.exists() and not socket.exists()
    scratch.remove()


def test_a_frozen_leftover_goes_too() -> None:
    killed_worker()
    home = Scratch(7, 1).home
    for pid in working_below(home):
        os.kill(pid, signal.SIGSTOP)
    assert remove_leftovers(lambda operation, fence: False) == 1
    assert not working_below(home) and not home.exists()


def test_leftovers_are_removed_unless_somebody_wants_them(scratch: Scratch) -> None:
    other = Scratch(8, 3)
    other.open()
    assert remove_leftovers(lambda operation, fence: (operation, fence) == (7, 2)) == 1
    assert scratch.home.exists() and not other.home.exists()


def test_a_server_that_does_not_start_says_why(scratch: Scratch) -> None:
    scratch.initialise()
    with pytest.raises(StepError, match="no_such_setting"):
        scratch.start(time.sleep, no_such_setting="1")


def test_a_turn_that_ended_while_it_started_leaves_nothing(scratch: Scratch) -> None:
    class Lost(BaseException):
        pass

    def lost(seconds: float) -> None:
        raise Lost

    with pytest.raises(Lost):
        scratch.run("initdb", "-D", str(scratch.data), wait=lost)
    scratch.remove()
    assert wait_until(lambda: not working_below(scratch.home), 30)


def test_a_socket_has_a_short_path_wherever_temporary_files_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    scratch = Scratch(9, 1)
    scratch.open()
    assert len(bytes(scratch.socket)) <= 90
    scratch.remove()


def test_programs_are_those_of_the_settings_or_ones_the_account_can_run(settings: object) -> None:
    assert server_program(place(), "postgres").startswith(str(place().postgres_programs))
    settings.POSTGRES_PROGRAMS = str(place().postgres_programs)  # type: ignore[attr-defined]
    assert server_program(place(), "postgres") == str(place().postgres_programs / "postgres")
