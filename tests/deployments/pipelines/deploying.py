"""bin/deploy, as a process of its own, and the real web process that it speaks with."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection

from controlplane.accounts.models import Person, Role
from controlplane.embedded.processes import free_port, wait_until
from controlplane.operations.models import Operation
from deployments.models import Release
from environments.models import Environment, Placement, Service
from tests.api.conftest import token
from tests.environments.fleet import QUICK, Fleet

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[str]:
    """The web process; gives its address."""
    port, log = free_port(), Path(settings.DATA_DIR) / "web-of-pipelines.log"
    url = urlsplit(os.environ["DATABASE_URL"])
    database = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    env = {**os.environ, "DATABASE_URL": database, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-P", "-m", "uvicorn", "controlplane.asgi:application", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        assert wait_until(lambda: answers(port), 60), log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture
def staging(web: str, alice: Person) -> Iterator[Environment]:
    """One real instance, of nothing yet; 1.5.0 may go there, and 1.6.0 will not become healthy."""
    service = Service.objects.create(slug="api", name="The API")
    environment = Environment.objects.create(slug="staging", name="Staging", driver="local", driver_settings=QUICK)
    instances = [{"name": "staging-1", "address": f"http://127.0.0.1:{free_port()}"}]
    placement = Placement.objects.create(environment=environment, service=service, instances=instances)
    for version in ("1.5.0", "1.6.0"):
        Release.objects.create(
            service=service, version=version, image="registry/api", ci="passed", created_by_name="x",
            digest="sha256:" + version.replace(".", "") * 21 + "a",
        )  # fmt: skip
    yield environment
    Fleet(placement).kill()


Answer = tuple[int, dict[str, str], bytes]
Say = Callable[..., Any]  # a process


@pytest.fixture
def deploy(web: str, staging: Environment, alice: Person) -> Iterator[Say]:
    """Starts the command: alice's token, version 1.5.0 to staging and --wait, where nothing else is said."""
    started: list[subprocess.Popen[str]] = []
    plain = token(alice, Role.OPERATOR)

    def start(
        *more: str, url: str = web, version: str = "1.5.0", env: dict[str, str] | None = None, cwd: Path = Path("/")
    ) -> Any:
        about = ["--url", url, "--service", "api", "--version", version, "--every", "0.1"]
        wanted = list(more) or ["--environment", "staging", "--reason", "build 7", "--wait"]
        who = {"CONTROLPLANE_TOKEN": plain} if env is None else env
        process = subprocess.Popen(
            [sys.executable, "-I", str(ROOT / "bin" / "deploy"), *about, *wanted], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"], **who}, cwd=cwd,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def asked_for() -> int:
    """The number of the operation, once there is one."""
    assert wait_until(Operation.objects.exists, 30)
    return Operation.objects.get().pk


def end_of(process: Any) -> tuple[int, str]:
    said, _ = process.communicate(timeout=50)
    return process.returncode, said
