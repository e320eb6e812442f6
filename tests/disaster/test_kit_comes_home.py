"""A journal is imported once, checked, with what it proves; what it does not prove changes nothing."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from backups.disaster.kit.bundle import make_kit, unpacked
from backups.disaster.kit.importing import import_journal
from backups.disaster.kit.script.journal import Journal
from backups.disaster.kit.script.manifest import MANIFEST, SIGNATURE
from backups.disaster.kit.signing import public_key
from backups.models import KitRun, Recovery, RecoveryPlan
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from environments.models import Environment

WHO = SYSTEM("manage.py")


@pytest.fixture
def plan(db: None) -> RecoveryPlan:
    sides = [Environment.objects.create(slug=slug, name=slug, driver="local") for slug in ("production", "dr")]
    return RecoveryPlan.objects.create(
        slug="pitchey", name="Pitchey", primary=sides[0], standby=sides[1], database={"kind": "by-hand"},
        traffic={"kind": "by-hand"},
    )  # fmt: skip


def written(plan: RecoveryPlan, path: Path, /, *, ended: bool = True, **first: Any) -> bytes:
    """The journal of a run, as recover.py writes one."""
    files = unpacked(make_kit(plan, datetime.now(UTC)).content)
    beginning = {
        "by": "Alice", "plan": plan.slug, "source": plan.serving.slug, "target": plan.waiting.slug,
        "content_digest": "c" * 64, "manifest": files[MANIFEST].decode(),
        "signature": files[SIGNATURE].decode().strip(),
        **first,
    }  # fmt: skip
    journal = Journal(path)
    journal.add("start", "", "production fails over to dr", **beginning)
    journal.add("decided", "decide", "the region is gone", by="Bob")
    if ended:
        end(journal)
    journal.close()
    return path.read_bytes()


def end(journal: Journal) -> None:
    journal.add("end", "", "dr serves people", outcome="succeeded", rto_seconds=60.0, unproven=[])


def test_a_failover_that_succeeded_moves_the_plan(plan: RecoveryPlan, tmp_path: Path) -> None:
    imported = import_journal(written(plan, tmp_path / "j"), plan, WHO)
    plan.refresh_from_db()
    assert plan.active == "standby"
    run = KitRun.objects.get()
    assert (run.outcome, run.by_name, run.kit_digest, run.imported_by_name) == (
        "succeeded", "Alice, Bob", "c" * 64, "system: manage.py",
    )  # fmt: skip
    assert (imported.fresh, imported.words) == (True, "dr serves people now, not production.")
    entry = Entry.objects.get(action="recovery_kit.imported")
    assert (entry.scopes, entry.reason) == (["dr", "production"], imported.words)


def test_it_is_imported_once(plan: RecoveryPlan, tmp_path: Path) -> None:
    content = written(plan, tmp_path / "j")
    import_journal(content, plan, WHO)
    RecoveryPlan.objects.update(active="primary")  # a failback since
    again = import_journal(content, plan, WHO)
    plan.refresh_from_db()
    assert (again.fresh, plan.active, KitRun.objects.count()) == (False, "primary", 1)
    assert Entry.objects.filter(action="recovery_kit.imported").count() == 1


def test_a_run_that_went_on_takes_the_place_of_its_beginning(plan: RecoveryPlan, tmp_path: Path) -> None:
    path = tmp_path / "j"
    first = import_journal(written(plan, path, ended=False), plan, WHO)
    plan.refresh_from_db()
    assert (first.run.outcome, plan.active) == ("unfinished", "primary")
    journal = Journal(path)
    end(journal)
    journal.close()
    import_journal(path.read_bytes(), plan, WHO)
    plan.refresh_from_db()
    assert (KitRun.objects.get().outcome, plan.active) == ("succeeded", "standby")


def test_a_line_that_was_cut_off_is_left_out(plan: RecoveryPlan, tmp_path: Path) -> None:
    content = written(plan, tmp_path / "j", ended=False)
    import_journal(content + b'{"n": 2, "at"', plan, WHO)
    assert len(KitRun.objects.get().journal) == 2


def changed(content: bytes, number: int, **values: Any) -> bytes:
    lines = content.splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **values}).encode()
    return b"\n".join(lines) + b"\n"


def test_what_was_changed_is_refused(plan: RecoveryPlan, tmp_path: Path) -> None:
    content = written(plan, tmp_path / "j")
    with pytest.raises(Invalid, match="Line 2 of the journal does not follow"):
        import_journal(changed(content, 1, words="nothing happened"), plan, WHO)
    with pytest.raises(Invalid, match="Line 2 of the journal does not follow"):
        import_journal(b"\n".join(content.splitlines()[::2]) + b"\n", plan, WHO)
    assert not KitRun.objects.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no beginning"),
        (b"no json\n", "Line 1 of the journal is not JSON"),
        (b"[]\n", "is no entry"),
        (b'{"data": {}}\n', "is no entry"),
        (b"\xff\xfe\n", "is not JSON"),
        (b"[" * 100_000 + b"\n", "is not JSON"),
    ],
)
def test_what_is_no_journal_is_refused_in_words(plan: RecoveryPlan, content: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        import_journal(content, plan, WHO)


def test_only_of_this_plan_and_of_a_kit_of_ours(plan: RecoveryPlan, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="the journal of other, not of pitchey"):
        import_journal(written(plan, tmp_path / "a", plan="other"), plan, WHO)
    with pytest.raises(Invalid, match="other environments"):
        import_journal(written(plan, tmp_path / "b", source="staging"), plan, WHO)
    with pytest.raises(Invalid, match="not signed by this control plane"):
        import_journal(written(plan, tmp_path / "c", signature="00" * 64), plan, WHO)
    with pytest.raises(Invalid, match="NUL"):
        import_journal(written(plan, tmp_path / "d", by="Al\0ice"), plan, WHO)
    with pytest.raises(Invalid, match="cannot be stored"):
        import_journal(written(plan, tmp_path / "e", by="\ud800"), plan, WHO)


def test_a_kit_from_before_a_change_of_the_secret_key(plan: RecoveryPlan, tmp_path: Path, settings: Any) -> None:
    content, former, key = written(plan, tmp_path / "j"), settings.SECRET_KEY, public_key()
    settings.SECRET_KEY = "another-secret-key-of-this-installation-0123456789"
    with pytest.raises(Invalid, match="give the key"):
        import_journal(content, plan, WHO)
    settings.SECRET_KEY_FALLBACKS = [former]
    assert import_journal(content, plan, WHO).fresh
    settings.SECRET_KEY_FALLBACKS = []
    assert import_journal(content, plan, WHO, [key]).fresh is False


def test_the_command_imports_and_says_what_came_of_it(plan: RecoveryPlan, tmp_path: Path, capsys: Any) -> None:
    written(plan, tmp_path / "j")
    call_command("recovery_kit", "import", str(tmp_path / "j"), "--plan", "pitchey", stdout=StringIO())
    assert "succeeded, by Alice, Bob: dr serves people now" in capsys.readouterr().out
    with pytest.raises(CommandError, match="There is no recovery plan nothing; there is pitchey"):
        call_command("recovery_kit", "import", str(tmp_path / "j"), "--plan", "nothing")
    with pytest.raises(CommandError, match="No such file"):
        call_command("recovery_kit", "import", str(tmp_path / "k"), "--plan", "pitchey")


def test_a_fence_that_nobody_proved_is_said(plan: RecoveryPlan, tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(plan, path, ended=False)
    journal = Journal(path)
    journal.add("end", "", "dr serves people", outcome="succeeded", unproven=["the region is dark since an hour"])
    journal.close()
    imported = import_journal(path.read_bytes(), plan, WHO)
    assert imported.words.endswith("Nobody has proven that production is fenced: see to it.")


def moved_by_the_control_plane(plan: RecoveryPlan, state: State, minutes: int | None) -> Operation:
    operation = Operation.objects.create(
        kind="failover", title="Fail over to dr", state=state, scopes=plan.scopes, lock_names=plan.scopes, plan={},
        plan_digest="", reason="", requested_by_name="Alice",
        finished_at=None if minutes is None else Now() + timedelta(minutes=minutes),
    )  # fmt: skip
    Recovery.objects.create(operation=operation, plan=plan, kind="failover", source=plan.primary, target=plan.standby)
    return operation


def test_what_the_control_plane_did_later_stands(plan: RecoveryPlan, tmp_path: Path) -> None:
    content = written(plan, tmp_path / "j")
    moved_by_the_control_plane(plan, State.SUCCEEDED, 1)
    imported = import_journal(content, plan, WHO)
    plan.refresh_from_db()
    assert (plan.active, "the control plane moved them after this run" in imported.words) == ("primary", True)


def test_what_it_did_before_does_not(plan: RecoveryPlan, tmp_path: Path) -> None:
    moved_by_the_control_plane(plan, State.SUCCEEDED, -60)
    import_journal(written(plan, tmp_path / "j"), plan, WHO)
    plan.refresh_from_db()
    assert plan.active == "standby"


def test_not_while_the_control_plane_moves_people(plan: RecoveryPlan, tmp_path: Path) -> None:
    content = written(plan, tmp_path / "j")
    operation = moved_by_the_control_plane(plan, State.RUNNING, None)
    with pytest.raises(Conflict, match=f"Operation {operation.pk} of this plan is under way"):
        import_journal(content, plan, WHO)
