"""The clock calls each duty on its own time, whatever the others do, and says that it lives."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone

from controlplane.clock import loop, registry
from controlplane.clock.loop import Clock
from controlplane.clock.models import Beat, last_beat
from controlplane.clock.registry import Duty
from controlplane.embedded.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.django_db(transaction=True)


class Counted:
    """A duty that counts its calls and may do something else besides."""

    def __init__(self, every: float = 0.02, then: Callable[[], object] = lambda: None) -> None:
        self.calls: list[float] = []
        self.then = then
        self.duty = Duty(f"count {id(self)}", every, self)

    def __call__(self) -> int:
        self.calls.append(time.monotonic())
        self.then()
        return 1

    def called(self, times: int) -> bool:
        return wait_until(lambda: len(self.calls) >= times, 30)


def test_each_duty_keeps_its_own_pace() -> None:
    quick, slow = Counted(0.02), Counted(3600)
    began = time.monotonic()
    with Clock([quick.duty, slow.duty]):
        assert quick.called(10)
        assert slow.called(1)
    assert len(quick.calls) <= 2 + (time.monotonic() - began) / 0.02
    assert len(slow.calls) == 1


def test_a_slow_duty_delays_no_other_and_never_runs_twice_at_once() -> None:
    go_on = threading.Event()
    slow, quick = Counted(0.01, lambda: go_on.wait(5)), Counted(0.01)
    with Clock([slow.duty, quick.duty]):
        assert slow.called(1)
        assert quick.called(10)
        assert len(slow.calls) == 1
        go_on.set()
        assert slow.called(2)


def test_times_slept_through_are_left_out() -> None:
    sleepy = Counted(0.05)
    sleepy.then = lambda: time.sleep(0.3) if len(sleepy.calls) == 1 else None
    with Clock([sleepy.duty]):
        assert sleepy.called(4)
    # The three after the sleep did not come all at once.
    assert sleepy.calls[3] - sleepy.calls[0] >= 0.3 + 2 * 0.05


def test_a_duty_that_fails_is_called_again_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise LookupError("nothing there")

    broken, sound = Counted(0.02, fail), Counted(0.02)
    with Clock([broken.duty, sound.duty]):
        assert broken.called(3)
        assert sound.called(3)
    assert "LookupError: nothing there" in caplog.text


def test_a_lost_database_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(loop, "DATABASE_PAUSE_SECONDS", 0.02)

    def ask() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            if len(duty.calls) == 2:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    duty = Counted(60.0, ask)
    with Clock([duty.duty]):
        assert duty.called(1)
        assert len(duty.calls) == 1
    duty = Counted(0.02, ask)
    with Clock([duty.duty]):
        assert duty.called(5)
    # The second call lost the connection; the third has a new one and does not fail.
    assert len([record for record in caplog.records if "the database is lost" in record.message]) == 1


def test_a_rare_duty_that_lost_the_database_does_not_wait_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "DATABASE_PAUSE_SECONDS", 0.02)

    def fail_once() -> None:
        if len(duty.calls) == 1:
            raise OperationalError("gone")

    duty = Counted(60.0, fail_once)
    with Clock([duty.duty]):
        assert duty.called(2)


def test_it_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BEAT_SECONDS", 0.02)
    assert last_beat() is None
    with Clock([], "one"), Clock([], "two"):
        assert wait_until(lambda: Beat.objects.count() == 2, 30)
        first = Beat.objects.get(name="one")
        assert wait_until(lambda: Beat.objects.get(name="one").beat_at > first.beat_at, 30)
    last = last_beat()
    assert last
    assert abs(timezone.now() - last) < timedelta(seconds=5)
    assert Beat.objects.get(name="one").started_at == first.started_at


def test_clocks_of_long_ago_are_forgotten() -> None:
    Beat.objects.create(name="old", beat_at=timezone.now() - timedelta(days=2))
    Beat.objects.create(name="recent", beat_at=timezone.now() - timedelta(hours=2))
    with Clock([], "new"):
        assert wait_until(lambda: Beat.objects.filter(name="new").exists(), 30)
    assert set(Beat.objects.values_list("name", flat=True)) == {"recent", "new"}


def test_it_ends_whatever_a_duty_does() -> None:
    never = threading.Event()
    stuck = Counted(0.01, never.wait)
    try:
        with Clock([stuck.duty]):
            assert stuck.called(1)
        assert len(stuck.calls) == 1, "it is still at it"
    finally:
        never.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_on_a_signal(number: signal.Signals) -> None:
    name = connection.settings_dict["NAME"]
    url = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{name}"
    environment = {**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "controlplane.settings"}
    command = [sys.executable, "-W", "ignore", "-m", "django", "clock"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert wait_until(Beat.objects.exists, 40)
            process.send_signal(number)
            assert process.wait(15) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_a_name_can_be_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_duties", {})
    one, other = Counted(), Counted()
    registry.register("probe", 30.0, one)
    registry.register("probe", 30.0, one)
    with pytest.raises(ValueError, match="probe is registered twice"):
        registry.register("probe", 30.0, other)
    with pytest.raises(ValueError, match="every 0 seconds"):
        registry.register("never", 0, one)
    assert [duty.name for duty in registry.duties()] == ["probe"]


def test_logging_is_quiet_when_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    duty = Counted()
    with caplog.at_level(logging.INFO), Clock([duty.duty]):
        assert duty.called(5)
    assert not caplog.records


def test_the_command_has_read_every_address_before_it_calls_anything() -> None:
    """A page carries a link, and reading all addresses takes a second or two that nobody must be paged later by."""
    program = f"""
import os, sys, django
from django.core.management import call_command
django.setup()
from controlplane.clock import registry
def look():
    os.write(1, str("{settings.ROOT_URLCONF}" in sys.modules).encode())
    os._exit(0)
registry._duties.clear()
registry.register("look", 60, look)
call_command("clock")
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout == "True"
