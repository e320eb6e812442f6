"""The database refuses to change, delete or empty the trail, whoever asks."""

import pytest
from django.db import DatabaseError, connection, transaction

from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM, record

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_entry SET reason = 'another'",
        "DELETE FROM audit_entry",
        "DELETE FROM audit_entry WHERE id = 1",
        "TRUNCATE audit_entry",
        "INSERT INTO audit_entry SELECT * FROM audit_entry ON CONFLICT (id) DO UPDATE SET reason = 'another'",
    ],
)
def test_it_is_refused(sql: str) -> None:
    record(SYSTEM("test"), "test.done", "thing 1", reason="because")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
    assert Entry.objects.get().reason == "because"


def test_the_models_are_refused_too() -> None:
    entry = record(SYSTEM("test"), "test.done", "thing 1")
    entry.reason = "another"
    for change in (entry.save, entry.delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()


def test_the_chain_cannot_fork() -> None:
    entry = record(SYSTEM("test"), "test.done", "thing 1")
    entry.pk += 1
    with pytest.raises(DatabaseError, match="previous_hash"), transaction.atomic():
        entry.save(force_insert=True)
