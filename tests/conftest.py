"""What all tests share. The servers are started by tests/plugin.py, before Django reads its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
import hypothesis
import pytest
from django.conf import settings
from django.core.management import call_command
from hypothesis import HealthCheck

# How long an example takes says something of the machine and of its other tests, nothing of ours.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_configure() -> None:
    settings.PASSWORD_HASHERS = ["tests.hashers.QuickHasher", *settings.PASSWORD_HASHERS]
    if not settings.STATIC_ROOT.is_dir():
        django.setup()
        call_command("collectstatic", interactive=False, verbosity=0)


pytest_plugins = ["tests.people", "tests.ports", "tests.template", "tests.order", "tests.flush", "tests.estate"]


@pytest.fixture
def data_dir(tmp_path: Path, settings: Any) -> Path:
    """A data folder of the test's own."""
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture(autouse=True)
def patient_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of the clock's duty has the answers of all that it asks: on a busy machine, too."""
    monkeypatch.setattr("environments.drift.TURN", 60.0)
