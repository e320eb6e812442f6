"""`bin/manage` uses the servers of the running data folder, or starts them for as long as its command runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from controlplane.embedded.files import write_private_json
from controlplane.embedded.lock import hold
from controlplane.embedded.manage import main, split
from controlplane.embedded.place import CHECKOUT
from controlplane.embedded.processes import working_in
from controlplane.embedded.stack import Stack

SAY = "from django.conf import settings as s; import json; d = s.DATABASES['default']; print(json.dumps(d['PORT']))"
ASK = ["shell", "--no-imports", "-c", SAY]


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nobody had set the URLs, which this test run has."""
    for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("arguments", [["--data", "/some/where"], ["--data=/some/where"]])
def test_only_a_leading_data_folder_is_ours(arguments: list[str]) -> None:
    assert split([*arguments, "demo", "--data", "theirs"]) == (Path("/some/where"), ["demo", "--data", "theirs"])
    assert split(["demo"]) == (CHECKOUT / "var", ["demo"])


def test_the_running_servers_are_used(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Stack(data, durable=False, environ={}) as stack, hold(data, "bin/run"):
        assert stack.postgres is not None
        write_private_json(data / "stack.json", {"env": stack.env})
        assert main(["--data", str(data), *ASK]) == 0
        assert json.loads(capfd.readouterr().out) == stack.postgres.port


def test_servers_are_started_for_one_command(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(data), *ASK]) == 0
    assert json.loads(capfd.readouterr().out) == json.loads((data / "servers.json").read_text())["postgres_port"]
    assert working_in(data / "servers" / "postgres", "postgres") == []


def test_the_status_of_the_command_is_the_status(data: Path) -> None:
    assert main(["--data", str(data), "shell", "--no-imports", "-c", "raise SystemExit(7)"]) == 7


def test_a_folder_that_is_just_starting_is_said_in_words(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.mkdir()
    with hold(data, "bin/run on http://127.0.0.1:8000"):
        assert main(["--data", str(data), "check"]) == 1
    assert "bin/run on http://127.0.0.1:8000" in capsys.readouterr().err


def test_the_command_itself_works_from_anywhere() -> None:
    command = [str(CHECKOUT / "bin/manage"), "--data", "/dev/null", "check"]
    done = subprocess.run(command, cwd="/", capture_output=True, check=False)
    assert done.returncode == 1
    assert b"The data folder /dev/null cannot be used" in done.stderr
