"""What all tests share. The servers are started by tests/plugin.py, before Django reads its settings."""

from __future__ import annotations

from django.conf import settings


def pytest_configure() -> None:
    settings.PASSWORD_HASHERS = ["tests.hashers.QuickHasher", *settings.PASSWORD_HASHERS]


pytest_plugins = ["tests.people", "tests.flush"]
