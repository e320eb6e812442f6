"""A backup is verified by a restore test and by nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.duties import clean_due
from backups.models import Backup, Kind, Policy
from backups.services import request_proof
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.errors import Conflict
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.backups.company import Make, back_up, only_backup
from tests.backups.databases import MIXED, database, url_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def dumps(make_policy: Make, data_dir: Path) -> Iterator[Policy]:
    """A policy of a real database."""
    with database(MIXED) as server:
        secret = data_dir / "secrets" / "production" / "database-url"
        secret.parent.mkdir(parents=True)
        secret.write_text(url_of(server))
        yield make_policy("database", kind=Kind.DATABASE, settings={"database": "file:production/database-url"})


def prove(person: Person, backup: Backup) -> Operation:
    """Ask for it and carry it out."""
    operation = request_proof(Actor(person), backup, reason="to know")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    backup.refresh_from_db()
    return operation


def scratches(data_dir: Path) -> list[Path]:
    """What restore tests left on the disk."""
    return [path for path in (data_dir / "servers").resolve().glob("scratch/*") if path.is_dir()]


def test_it_is_restored_compared_and_thrown_away(dumps: Policy, alice: Person, data_dir: Path) -> None:
    dumps.checks = [{"name": "there are rows", "sql": "SELECT count(*) >= 0 FROM pg_class"}]
    dumps.save()
    assert back_up(alice, dumps).state == State.SUCCEEDED
    backup = only_backup()
    operation = prove(alice, backup)
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert backup.verdict == Backup.Verdict.PROVEN and backup.restore_seconds and backup.tested_in == operation.pk
    assert "are as they were, and a check of your own agrees" in backup.verdict_words
    assert scratches(data_dir) == []


def test_a_flipped_bit_is_found(dumps: Policy, alice: Person, data_dir: Path) -> None:
    back_up(alice, dumps)
    backup = only_backup()
    path = data_dir / "backups" / backup.key / backup.manifest["objects"][0]["name"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    operation = prove(alice, backup)
    assert operation.state == State.FAILED and backup.verdict == Backup.Verdict.FAILED
    assert backup.verdict_words and scratches(data_dir) == []


def test_a_check_of_the_users_own_that_says_no(dumps: Policy, alice: Person, data_dir: Path) -> None:
    dumps.checks = [{"name": "there are a million users", "sql": "SELECT false"}]
    dumps.save()
    back_up(alice, dumps)
    backup = only_backup()
    operation = prove(alice, backup)
    assert operation.state == State.FAILED and "there are a million users" in operation.outcome
    assert backup.verdict == Backup.Verdict.FAILED and scratches(data_dir) == []


def test_one_that_cannot_be_carried_out_says_nothing_of_the_backup(dumps: Policy, alice: Person, settings: Any) -> None:
    back_up(alice, dumps)
    backup = only_backup()
    settings.POSTGRES_PROGRAMS = "/nowhere"
    operation = prove(alice, backup)
    assert operation.state == State.FAILED and "Set POSTGRES_PROGRAMS" in operation.outcome
    assert backup.verdict == Backup.Verdict.NONE and backup.tested_at is None


def test_the_reasons_to_keep_it_are_told_anew(policy: Policy, alice: Person) -> None:
    back_up(alice, policy)
    clean_due()
    assert "none is proven yet" in only_backup().kept_because
    prove(alice, only_backup())
    clean_due()
    assert "the last one proven by a restore" in only_backup().kept_because


def test_what_is_deleted_cannot_be_tested(policy: Policy, alice: Person) -> None:
    back_up(alice, policy)
    Backup.objects.update(state=Backup.State.DELETED)
    with pytest.raises(Conflict, match="deleted"):
        request_proof(Actor(alice), only_backup(), reason="to know")
