"""What the system sees for itself holds only when there is something to look at, and it is well."""

import os
import shutil
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from backups.models import BackupAlert
from controlplane.clock.database import database_time
from controlplane.operations.models import Operation
from environments.models import Environment, HealthSample, Placement
from incidents.models import Alert, AlertSource, DatabaseProbe
from incidents.runbook import checks
from tests.backups.company import Make, archive, make_policy, production
from tests.backups.history import entry, proven
from tests.estate import Estate

__all__ = ["archive", "make_policy", "production"]
pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def samples(*, healthy: bool = True) -> None:
    for placement in Placement.objects.all():
        for one in placement.instances:
            HealthSample.objects.create(placement=placement, instance=one["name"], healthy=healthy, status=200)


class TestHealth:
    def test_all_well(self, estate: Estate) -> None:
        samples()
        seen = checks.health()
        assert (seen.ok, seen.words, seen.url) == (True, "All 4 instances of 2 places answer well.", "/")

    def test_one_that_is_not_well(self, estate: Estate) -> None:
        samples()
        HealthSample.objects.create(
            placement=Placement.objects.get(environment=estate.staging), instance="staging-1", healthy=False,
            status=503, at=database_time() + timedelta(seconds=1),
        )  # fmt: skip
        seen = checks.health()
        assert not seen.ok
        assert "api in staging: 0/1 healthy" in seen.words

    def test_what_nobody_probed_is_not_well(self, estate: Estate) -> None:
        assert not checks.health().ok

    def test_nothing_deployed_is_left_to_a_person(self, db: None) -> None:
        seen = checks.health()
        assert (seen.ok, seen.words) == (False, "Nothing is deployed anywhere yet; a person has to look.")


class TestBackups:
    def test_fresh_ones(self, make_policy: Make) -> None:
        proven(make_policy())
        seen = checks.backup_completion()
        assert (seen.ok, seen.url) == (True, "/backups")

    def test_one_that_is_late(self, make_policy: Make) -> None:
        proven(make_policy())
        entry(make_policy("database"), age=DAY)
        seen = checks.backup_completion()
        assert not seen.ok
        assert "production/database" in seen.words

    def test_one_with_an_alert(self, make_policy: Make) -> None:
        policy = make_policy()
        proven(policy)
        BackupAlert.objects.create(policy=policy, kind=BackupAlert.Kind.FAILED, words="no space")
        assert not checks.backup_completion().ok

    def test_a_paused_one_is_not_asked_for(self, make_policy: Make) -> None:
        proven(make_policy())
        make_policy("old", paused=True)
        assert checks.backup_completion().ok

    def test_none_at_all_is_left_to_a_person(self, db: None) -> None:
        assert not checks.backup_completion().ok
        assert not checks.backup_restoration().ok

    def test_restored_in_the_last_week(self, make_policy: Make) -> None:
        backup = proven(make_policy())
        seen = checks.backup_restoration()
        assert (seen.ok, seen.url) == (True, backup.get_absolute_url())
        type(backup).objects.update(tested_at=timezone.now() - 8 * DAY)
        later = checks.backup_restoration()
        assert not later.ok
        assert later.words.startswith("The last time: production/configuration")

    def test_a_drill_that_was_recorded(self, db: None) -> None:
        assert checks.recovery_drill().words == "No drill was ever recorded."
        operation = Operation.objects.create(
            kind="drill", title="Drill in dr", scopes=["dr"], lock_names=["dr"], state="succeeded", reason="x", plan={},
            plan_digest="0" * 64, requested_by_name="Bob", finished_at=timezone.now() - DAY,
        )  # fmt: skip
        seen = checks.recovery_drill()
        assert (seen.ok, seen.url) == (True, f"/operations/{operation.pk}")
        Operation.objects.update(finished_at=timezone.now() - 40 * DAY)
        assert not checks.recovery_drill().ok


class TestSecurityAlerts:
    def fire(self, source: AlertSource, **labels: str) -> None:
        now = timezone.now()
        Alert.objects.create(
            source=source, fingerprint=str(labels), state="firing", name="BruteForce", severity="critical",
            summary="many sign-ins failed", labels=labels, started_at=now, last_at=now,
        )  # fmt: skip

    def test_silence_says_nothing_without_a_source(self, db: None) -> None:
        AlertSource.objects.create(slug="control-plane", kind="own")
        seen = checks.security_alerts()
        assert not seen.ok
        assert "silence says nothing" in seen.words

    def test_only_those_of_security_count(self, db: None) -> None:
        source = AlertSource.objects.create(slug="prometheus", kind="alertmanager")
        self.fire(source, category="disk")
        assert checks.security_alerts().ok
        self.fire(source, category="security")
        seen = checks.security_alerts()
        assert (seen.ok, seen.words) == (False, "Firing: BruteForce: many sign-ins failed.")


class TestDisk:
    @pytest.mark.parametrize(("free", "ok"), [(50, True), (15, True), (14, False), (0, False)])
    def test_enough_room(self, make_policy: Make, monkeypatch: pytest.MonkeyPatch, free: int, ok: bool) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 100 - free, free))
        make_policy()
        seen = checks.disk_space()
        assert seen.ok == ok
        assert "storage archive" in seen.words

    def test_a_disk_that_is_not_there(self, db: None, data_dir: Path, archive: object) -> None:
        type(archive).objects.update(settings={"path": "/nowhere/at/all"})  # type: ignore[attr-defined]
        seen = checks.disk_space()
        assert not seen.ok
        assert "storage archive cannot be looked at" in seen.words


class TestUpdates:
    @pytest.fixture(autouse=True)
    def record(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, db: None) -> Path:
        file = tmp_path / "updates-available"
        monkeypatch.setattr(checks, "UPDATES", file)
        return file

    @pytest.mark.parametrize(
        ("text", "ok", "words"),
        [
            ("\n", True, "0 updates wait"),
            ("\n0 updates can be applied immediately.\n", True, "0 updates wait"),
            ("\n5 updates can be applied immediately.\n", False, "5 updates wait"),
            (
                "5 updates can be applied.\n2 of these updates are standard security updates.\n",
                False,
                "2 security updates",
            ),
            ("9 packages can be updated.\n0 updates are security updates.\n", True, "0 security updates wait"),
            ("what is this", False, "cannot be understood"),
        ],
    )
    def test_what_the_record_says(self, record: Path, text: str, ok: bool, words: str) -> None:
        record.write_text(text)
        seen = checks.system_updates()
        assert seen.ok == ok
        assert words in seen.words

    def test_no_record_is_left_to_a_person(self) -> None:
        assert checks.system_updates().words.endswith("a person has to look.")

    def test_an_old_record_says_nothing(self, record: Path) -> None:
        record.write_text("\n")
        os.utime(record, (1_700_000_000, 1_700_000_000))
        assert not checks.system_updates().ok

    def test_other_hosts_are_not_vouched_for(self, record: Path) -> None:
        record.write_text("\n")
        Environment.objects.create(slug="production", name="Production", driver="ecs")
        seen = checks.system_updates()
        assert not seen.ok
        assert "Of the other hosts nothing is known" in seen.words


class TestDatabases:
    def test_without_a_probe_it_is_left_to_a_person(self, db: None) -> None:
        seen = checks.database_maintenance()
        assert not seen.ok
        assert seen.words.startswith("No database of an environment is probed; the control plane's own")

    @pytest.mark.django_db(transaction=True)
    def test_a_probed_one_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        place = Environment.objects.create(slug="production", name="Production", driver="local")
        DatabaseProbe.objects.create(environment=place, reference="env:PROBED_DATABASE")
        values = connection.settings_dict
        address = f"{values['HOST'] or 'localhost'}:{values['PORT'] or 5432}"
        url = f"postgresql://{values['USER']}:{values['PASSWORD']}@{address}/{values['NAME']}"
        monkeypatch.setenv("PROBED_DATABASE", url)
        with connection.cursor() as cursor:  # what other tests changed in it is nobody's neglect
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("VACUUM ANALYZE")
        seen = checks.database_maintenance()
        assert (seen.ok, seen.words) == (
            True, "Dead rows are few and statistics fresh in the databases of production."
        )  # fmt: skip

    def test_one_that_cannot_be_reached_is_not_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        place = Environment.objects.create(slug="production", name="Production", driver="local")
        DatabaseProbe.objects.create(environment=place, reference="env:PROBED_DATABASE")
        monkeypatch.setenv("PROBED_DATABASE", "postgresql://me:hunter2@127.0.0.1:1/x")
        seen = checks.database_maintenance()
        assert not seen.ok
        assert "production: " in seen.words
        assert "hunter2" not in seen.words

    @pytest.mark.parametrize(
        ("row", "words"),
        [
            (("users", 10, 100_000, None, None, 0), ""),
            (("users", 50_000, 100_000, None, None, 0), "users has 50000 dead rows beside 100000"),
            (("users", 50_000, 9_000_000, None, None, 0), ""),
            (("users", 0, 100_000, None, None, 50_000), "users changed by 50000 rows since it was analysed"),
            (("users", 0, 100_000, None, "now", 50_000), ""),
        ],
    )
    def test_which_table_needs_care(self, row: tuple[object, ...], words: str) -> None:
        now = timezone.now()
        filled = tuple(now if value == "now" else value for value in row)
        assert checks._neglected([filled], now) == ([words] if words else [])


def test_every_check_of_the_dict_answers(db: None, data_dir: Path) -> None:
    for name, check in checks.CHECKS.items():
        seen = check()
        assert seen.words.endswith("."), name
