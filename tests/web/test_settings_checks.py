"""Settings that contradict each other stop the start and say what to write instead."""

import pytest
from django.core.checks import run_checks
from pytest_django import Settings


@pytest.fixture(autouse=True)
def as_at_home(settings: Settings) -> None:
    """What bin/run sets; the test runner itself adds a host."""
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
    settings.SESSION_COOKIE_SECURE = False


def found() -> list[str]:
    ours = run_checks(tags=["controlplane"])
    assert all(message.hint for message in ours)
    return sorted(str(message.id) for message in ours)


def test_the_defaults_are_right() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("OPERATION_LEASE_SECONDS", 1.5, "E001"),
        ("OPERATION_HEARTBEAT_SECONDS", 0, "E001"),
        ("APPROVAL_LIFETIME_HOURS", 0, "E002"),
        ("REDIS_URL", "localhost:6379", "E003"),
        ("ALLOWED_HOSTS", ["localhost", "control.pitchey.com"], "E004"),
        ("ALLOWED_HOSTS", ["*"], "E004"),
    ],
)
def test_each_wrong_setting_has_its_error(settings: Settings, name: str, value: object, code: str) -> None:
    setattr(settings, name, value)
    assert found() == [f"controlplane.{code}"]


def test_other_names_are_right_behind_tls(settings: Settings) -> None:
    settings.SESSION_COOKIE_SECURE = True
    settings.ALLOWED_HOSTS = ["control.pitchey.com"]
    assert found() == []


def test_every_loopback_address_is_home(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
    assert found() == []
