"""What counts as a good backup, what the next one is built on, and what a clean-up may take away."""

from datetime import timedelta
from pathlib import Path

import pytest

from backups.catalog import rebuild
from backups.cleaning import propose
from backups.declarations import read_policies
from backups.duties import start_due
from backups.jobs import job_of
from backups.models import Backup, BackupRun, Kind, Policy, PolicyClock, Storage
from backups.services import request_cleanup, request_proof
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.operations import engine
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import Answer, State, StepState
from controlplane.operations.transitions import resolve
from environments.declarations.reading import Problem, Table
from tests.backups.company import Make, back_up, only_backup
from tests.backups.history import entry, proven

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def uploads(make_policy: Make, tmp_path: Path) -> Policy:
    """A policy of a folder with one file."""
    folder = tmp_path / "files in use"
    folder.mkdir()
    (folder / "avatar.png").write_bytes(b"picture")
    return make_policy("uploads", kind=Kind.UPLOADS, settings={"source": {"folder": str(folder)}})


def clean(person: Person, policy: Policy) -> Operation:
    """Ask for the clean-up that retention proposes, and carry it out."""
    operation = request_cleanup(Actor(person), policy, propose(policy), reason="because")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def in_doubt(operation: Operation, key: str) -> None:
    """A step whose end nobody knows."""
    Step.objects.filter(operation=operation, key=key).update(state=StepState.UNKNOWN, attempt=1)
    Operation.objects.filter(pk=operation.pk).update(state=State.NEEDS_OPERATOR, finished_at=None)


@pytest.mark.parametrize("answer", [Answer.DONE, Answer.SKIP])
def test_a_persons_word_proves_no_backup(policy: Policy, alice: Person, answer: Answer) -> None:
    back_up(alice, policy)
    operation = request_proof(Actor(alice), only_backup(), reason="to know")
    in_doubt(operation, "prove")
    resolve(operation.pk, Actor(alice), "prove", answer, "it looked good")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED and only_backup().verdict == Backup.Verdict.NONE


def test_a_persons_word_makes_no_backup(policy: Policy, alice: Person) -> None:
    operation = back_up(alice, policy)
    Backup.objects.all().delete()
    Step.objects.filter(operation=operation, key="configuration-take").update(checkpoint={"keys": ["x/"]})
    in_doubt(operation, "configuration-take")
    resolve(operation.pk, Actor(alice), "configuration-take", Answer.DONE, "it looked good")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.SUCCEEDED and not Backup.objects.exists()
    assert not operation.events.filter(text__contains="could not be written down").exists()


def test_nothing_is_built_on_a_chain_that_does_not_restore(make_policy: Make) -> None:
    policy = make_policy("wal", kind=Kind.PITR, settings={"database": "file:production/database-url"}, full_every=9)
    whole = entry(policy, age=timedelta(days=2))
    last = entry(policy, age=timedelta(days=1), parent=whole, level="incremental")
    assert job_of(policy, "x/").parent == last.manifest
    Backup.objects.filter(pk=whole.pk).update(verdict=Backup.Verdict.FAILED)
    assert job_of(policy, "x/").parent is None


def test_in_another_storage_it_begins_anew(uploads: Policy, alice: Person, data_dir: Path) -> None:
    back_up(alice, uploads)
    old = only_backup()
    uploads.storage = Storage.objects.create(slug="second", kind="folder", settings={"path": "second"})
    uploads.save()
    operation = back_up(alice, uploads)
    assert operation.state == State.SUCCEEDED, operation.outcome
    # What stands in the first one is deleted there, and does not hold up the clean-up of the second.
    assert clean(alice, uploads).state == State.SUCCEEDED
    Backup.objects.filter(pk=old.pk).update(as_of=database_time() - timedelta(days=90))
    assert clean(alice, uploads).state == State.SUCCEEDED
    old.refresh_from_db()
    assert old.state == Backup.State.DELETED and not (data_dir / "backups" / old.key).exists()


def test_the_floor_is_a_backup_that_may_restore(make_policy: Make) -> None:
    policy = make_policy(keep_days=1)
    good = entry(policy, age=timedelta(days=50))
    whole = entry(policy, age=timedelta(days=40), verdict=Backup.Verdict.FAILED)
    entry(policy, age=timedelta(days=39), parent=whole, level="incremental")
    entry(policy, age=timedelta(days=30), state=Backup.State.DAMAGED, verdict=Backup.Verdict.PROVEN)
    assert propose(policy).keep == [good]
    best = proven(policy, age=timedelta(days=60))
    assert propose(policy).keep == [best]


def test_a_clock_set_back_does_not_stop_a_policy(policy: Policy, alice: Person) -> None:
    due = database_time() - timedelta(seconds=5)
    operation = back_up(alice, policy)
    BackupRun.objects.filter(operation=operation).update(due_at=due)
    PolicyClock.objects.update(due_at=due)
    start_due()
    assert PolicyClock.objects.filter(due_at__gt=due).exists() and BackupRun.objects.count() == 1


def test_a_manifest_without_its_objects_is_no_backup(policy: Policy, alice: Person, data_dir: Path) -> None:
    back_up(alice, policy)
    backup = only_backup()
    (data_dir / "backups" / backup.manifest["objects"][0]["key"]).unlink()
    Backup.objects.all().delete()
    rebuild(policy.storage, SYSTEM("test"))
    found = only_backup()
    assert found.verdict == Backup.Verdict.FAILED and "the storage has nothing at" in found.verdict_words


def test_what_backups_depend_on_stays_declared(make_policy: Make) -> None:
    policy = make_policy("wal", kind=Kind.PITR, settings={"database": "file:production/database-url"})
    Storage.objects.create(slug="second", kind="folder", settings={"path": "second"})
    declared = {"kind": "pitr", "storage": "second", "schedule": "0 2 * * *", "settings": policy.settings}

    def problems(**values: object) -> list[str]:
        found: list[Problem] = []
        document = {"environments": {"production": {}}, "backups": {"production": {"wal": {**declared, **values}}}}
        read_policies(Table("", document, found, document))
        return [one.path for one in found]

    assert problems() == []
    entry(policy)
    assert problems() == ["backups.production.wal.storage"] and problems(storage="archive") == []
    assert "backups.production.wal.kind" in problems(kind="database", storage="archive")
