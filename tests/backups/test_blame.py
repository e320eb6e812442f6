"""A storage that does not let us in says nothing of the backups in it, and its place stays while they are there."""

from pathlib import Path

import pytest

from backups.models import Backup, Policy, Storage
from backups.services import request_proof
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.states import State
from environments.declarations.applying import read
from environments.declarations.reading import FileError
from tests.backups.company import back_up, only_backup

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_storage_that_is_away(policy: Policy, alice: Person, data_dir: Path) -> None:
    back_up(alice, policy)
    Storage.objects.update(settings={"path": str(data_dir / "not-mounted")})
    operation = request_proof(Actor(alice), only_backup(), reason="to know")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    assert operation.state == State.FAILED and only_backup().verdict == Backup.Verdict.NONE


def declared(folder: Path, path: str) -> None:
    file = folder / "company.toml"
    file.write_text(f'[storages.archive]\nkind = "folder"\npath = "{path}"\n')
    read(file)


def test_its_place_stays_while_backups_are_in_it(policy: Policy, alice: Person, tmp_path: Path) -> None:
    declared(tmp_path, "elsewhere")
    back_up(alice, policy)
    declared(tmp_path, "backups")
    with pytest.raises(FileError, match="cannot change while backups are in it"):
        declared(tmp_path, "elsewhere")
    Backup.objects.update(state=Backup.State.DELETED)
    declared(tmp_path, "elsewhere")
