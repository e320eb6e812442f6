"""The trail as a file: the same entries as the page shows, streamed, bounded, safe to open."""

import csv
import io
import json
from datetime import datetime

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import AsyncClient, Client

from controlplane.accounts.models import Person
from controlplane.audit import export
from controlplane.audit.chain import digest
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM, record

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def trail(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PIECE", 3)
    for number in range(1, 9):
        scopes = ["production"] if number % 2 else ["development"]
        with transaction.atomic():
            record(SYSTEM("test"), "thing.done", f"thing {number}", scopes=scopes, reason="=cmd()", data={"n": "a,b\n"})


@async_to_sync
async def download(person: Person, path: str) -> str:
    client = AsyncClient()
    await client.aforce_login(person)
    response = await client.get(path)
    assert response.headers["Content-Disposition"].startswith("attachment")
    return b"".join([piece async for piece in response.streaming_content]).decode()  # type: ignore[attr-defined]


def test_json_is_enough_to_check_the_chain(trail: None, ada: Person) -> None:
    entries = json.loads(download(ada, "/audit.json?action=thing.done"))
    assert [entry["target"] for entry in entries] == [f"thing {number}" for number in range(8, 0, -1)]
    for fields in entries:
        entry = Entry(**fields | {"at": datetime.fromisoformat(fields["at"])})
        assert digest(entry) == entry.hash


def test_csv_is_a_table_without_formulas(trail: None, ada: Person) -> None:
    rows = list(csv.DictReader(io.StringIO(download(ada, "/audit.csv?target=thing+3"))))
    assert [(row["target"], row["reason"], row["scopes"], row["actor_id"]) for row in rows] == [
        ("thing 3", "'=cmd()", "production", "")
    ]
    assert json.loads(rows[0]["data"]) == {"n": "a,b\n"}


def test_only_what_the_reader_may_see(trail: None, eve: Person, charlie: Person) -> None:
    assert {entry["scopes"][0] for entry in json.loads(download(eve, "/audit.json"))} == {"development"}
    assert json.loads(download(charlie, "/audit.json")) == []
    assert len(download(charlie, "/audit.csv").splitlines()) == 1


def test_it_is_bounded(trail: None, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "AT_MOST", 5)
    assert len(json.loads(download(ada, "/audit.json"))) == 5


def test_there_is_no_other_form(client: Client, ada: Person) -> None:
    client.force_login(ada)
    assert client.get("/audit.xml").status_code == 404
