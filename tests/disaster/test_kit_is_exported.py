"""Kits leave by the clock when the plan says something else, or after a day; no secret ever does."""

import io
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now

from backups.disaster.kit import duties
from backups.disaster.kit.bundle import Kit, check_kit, make_kit, unpacked
from backups.disaster.kit.duties import export_due
from backups.disaster.kit.signing import public_key
from backups.models import RecoveryClock, RecoveryKit, RecoveryPlan, Storage
from controlplane.operations.errors import Invalid
from environments.models import ConfigEntry, Environment, Placement, Service

PASSWORD = "hunter2-but-longer"


@pytest.fixture
def plan(db: None, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> RecoveryPlan:
    monkeypatch.setenv("KIT_TEST_PASSWORD", PASSWORD)
    service = Service.objects.create(slug="pitchey-backend", name="Backend")
    sides = []
    for slug in ("production", "dr"):
        settings = {
            "region": "us-west-2",
            "cluster": f"pitchey-{slug}",
            "access_key": "env:DR_KEY",
            "secret_key": "aws:dr/key",
        }
        environment = Environment.objects.create(
            slug=slug, name=slug, driver="ecs", url=f"https://{slug}.pitchey.com", driver_settings=settings
        )
        ConfigEntry.objects.create(environment=environment, key="DB_PASSWORD", secret="env:KIT_TEST_PASSWORD")
        Placement.objects.create(environment=environment, service=service, instances=[{"name": slug}])
        sides.append(environment)
    storage = Storage.objects.create(slug="kits", kind="folder", settings={"path": "kits"})
    plan = RecoveryPlan.objects.create(
        slug="pitchey", name="Pitchey", primary=sides[0], standby=sides[1], kit_storage=storage,
        services={"pitchey-backend": 3}, database={"kind": "by-hand", "url": f"postgresql://u:{PASSWORD}@db/p"},
        traffic={"kind": "by-hand", "token": "a-token-in-the-clear"}, tell=["On-call, +1 555 0100"],
        configuration={"DATABASE_URL": "postgresql://u:other-password@dr-db/p", "NOTE": f"it is {PASSWORD}"},
    )  # fmt: skip
    RecoveryClock.objects.create(plan=plan)
    return plan


def again(seconds: float = 1) -> int:
    """The clock, after its next time has come."""
    RecoveryClock.objects.update(kit_due_at=Now() - timedelta(seconds=seconds))
    return export_due()


def stored(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "kits").rglob("*.tar.gz"))


def test_the_first_one_leaves_and_the_same_again_does_not(plan: RecoveryPlan, data_dir: Path) -> None:
    assert (export_due(), export_due(), again()) == (1, 0, 1)
    row = RecoveryKit.objects.get()
    assert [path.relative_to(data_dir / "kits").as_posix() for path in stored(data_dir)] == [row.key]
    assert check_kit(stored(data_dir)[0].read_bytes())["content_digest"] == row.content_digest


def test_another_one_leaves_when_the_plan_changes(plan: RecoveryPlan) -> None:
    export_due()
    plan.services = {"pitchey-backend": 5}
    plan.save()
    again()
    assert RecoveryKit.objects.count() == 2
    RecoveryPlan.objects.update(active="standby")
    again()
    assert RecoveryKit.objects.count() == 3


def test_another_one_leaves_after_a_day(plan: RecoveryPlan) -> None:
    export_due()
    RecoveryKit.objects.update(made_at=Now() - timedelta(hours=23))
    again()
    assert RecoveryKit.objects.count() == 1
    RecoveryKit.objects.update(made_at=Now() - timedelta(hours=25))
    again()
    assert RecoveryKit.objects.count() == 2


def test_a_storage_that_is_broken_is_tried_again_and_delays_nobody(plan: RecoveryPlan) -> None:
    Storage.objects.update(settings={"path": "/nowhere/at/all"})
    assert (export_due(), RecoveryKit.objects.count()) == (1, 0)
    due = RecoveryClock.objects.get().kit_due_at
    assert timedelta(minutes=5) < due - datetime.now(UTC) < timedelta(minutes=15)
    Storage.objects.update(settings={"path": "kits"})
    again()
    assert RecoveryKit.objects.count() == 1


def test_without_a_storage_nothing_is_due(plan: RecoveryPlan) -> None:
    RecoveryPlan.objects.update(kit_storage=None)
    assert (export_due(), RecoveryKit.objects.count()) == (0, 0)


def test_nothing_is_written_to_the_storage_in_a_transaction(
    plan: RecoveryPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = len(connection.savepoint_ids)
    seen: list[int] = []

    def watched(plan: RecoveryPlan, now: datetime) -> Kit:
        seen.append(len(connection.savepoint_ids))
        return make_kit(plan, now)

    monkeypatch.setattr(duties, "make_kit", watched)
    export_due()
    assert seen == [depth]


def test_no_secret_leaves(plan: RecoveryPlan) -> None:
    files = unpacked(make_kit(plan, datetime.now(UTC)).content)
    for name, content in files.items():
        for secret in (PASSWORD, "other-password", "a-token-in-the-clear"):
            assert secret.encode() not in content, name
    plan_json = check_kit(make_kit(plan, datetime.now(UTC)).content)
    place = plan_json["applications"][0]["to"]
    assert (place["access_key_env"], place["secret_key_env"]) == ("DR_KEY", "DR_SECRET_KEY")
    assert plan_json["configuration"]["DATABASE_URL"] == "postgresql://u:[secret]@dr-db/p"


def test_the_runbook_says_by_hand_what_the_script_cannot(plan: RecoveryPlan) -> None:
    text = unpacked(make_kit(plan, datetime.now(UTC)).content)["RUNBOOK.md"].decode()
    for words in (
        "On-call, +1 555 0100", public_key(), "It cannot do the database and the traffic", "pg_restore --create",
        "aws ecs update-service \\\n      --region us-west-2 \\\n      --cluster pitchey-dr \\\n"
        "      --service pitchey-backend \\\n      --desired-count 3",
        "until curl -f https://dr.pitchey.com/health; do sleep 10; done",
    ):  # fmt: skip
        assert words in text


def test_the_command_makes_a_file_and_checks_it(plan: RecoveryPlan, tmp_path: Path, capsys: Any) -> None:
    call_command("recovery_kit", "export", "pitchey", "--to", str(tmp_path))
    path = next(tmp_path.glob("recovery-kit-pitchey-*.tar.gz"))
    call_command("recovery_kit", "verify", str(path))
    call_command("recovery_kit", "key")
    said = capsys.readouterr().out
    assert "The kit is whole and signed: pitchey, from production to dr" in said
    assert said.endswith(f"{public_key()}\n")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CommandError, match=r"no recovery kit|not whole"):
        call_command("recovery_kit", "verify", str(path))


@pytest.mark.parametrize("name", ["../../etc/passwd", "kit/plan.json/", "kit/more.txt"])
def test_a_kit_holds_nothing_else(name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(mode="w:gz", fileobj=packed) as tar:
        about = tarfile.TarInfo(name)
        about.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
        tar.addfile(about, io.BytesIO())
    with pytest.raises(Invalid, match="does not belong"):
        unpacked(packed.getvalue())


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"hello", b"\x1f\x8b\x08\x00" + b"\xff" * 60])
def test_what_is_no_kit_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(Invalid):
        check_kit(content)
