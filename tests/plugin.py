"""Starts the servers of a test run before Django reads its settings, and always stops them.

One PostgreSQL serves the whole run, and each pytest process has a Redis of its own (channels know no databases).
What DATABASE_URL and REDIS_URL name from outside is used as it is. A run that was killed is cleaned up by the next.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from controlplane.embedded.lock import HeldError, hold
from controlplane.embedded.place import discard
from controlplane.embedded.stack import Stack, open_data_folder

PREFIX = "controlplane-test-"
SETTLED_SECONDS = 30
OWN_REDIS = "CONTROLPLANE_TEST_OWN_REDIS"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Before any other plugin reads the settings: put the servers' URLs into the environment."""
    servers = ExitStack()
    early_config.add_cleanup(servers.close)
    # A plain SIGTERM would end Python without the clean-up; as an interrupt it ends the run in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if os.environ.get(OWN_REDIS):
        del os.environ["REDIS_URL"]  # the one of the process that started this xdist worker
    sweep()
    data = open_data_folder(Path(tempfile.mkdtemp(prefix=PREFIX)))
    servers.callback(shutil.rmtree, data, ignore_errors=True)
    data.chmod(0o711)  # the servers run as another account where we are root
    servers.enter_context(hold(data, "pytest"))
    # Collected once, by the process that starts the others (tests/conftest.py).
    os.environ.setdefault("STATIC_ROOT", str(data / "static"))
    os.environ.setdefault("HTTPS", "false")
    stack = servers.enter_context(Stack(data, durable=False))
    if stack.redis is not None:
        os.environ[OWN_REDIS] = "yes"
    os.environ.update(stack.env)
    return (yield)


def sweep() -> None:
    """Stop and delete what a killed run left behind."""
    for data in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if time.time() - (data / "lock").stat().st_mtime < SETTLED_SECONDS:
                continue  # it may be just starting
            with hold(data, "the clean-up after a killed test run"):
                discard(data / "servers")
                shutil.rmtree(data, ignore_errors=True)
        except (HeldError, OSError):
            continue  # it runs, or it is somebody else's
