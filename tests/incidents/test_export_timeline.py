"""The timeline as a file: JSON that proves itself without a database, Markdown that people read, both in pieces."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import AsyncClient, Client
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person, Role
from incidents import export, notes, timeline
from incidents.export import escaped
from incidents.models import Incident
from incidents.timeline import Broken, Kind
from tests.estate import Estate
from tests.incidents.lessons import add, resolved
from tests.people import person


@async_to_sync
async def download(reader: Person, path: str) -> tuple[int, str]:
    client = AsyncClient()
    await client.aforce_login(reader)
    answer = await client.get(path)
    if not answer.streaming:
        return answer.status_code, answer.content.decode()
    text = b"".join([piece async for piece in answer.streaming_content]).decode()  # type: ignore[attr-defined]
    return answer.status_code, text


@pytest.fixture
def incident(transactional_db: None, alice: Person, monkeypatch: pytest.MonkeyPatch) -> Incident:
    """One that is over, with a note that was edited, a hidden one and one that was filled in; read in small pieces."""
    monkeypatch.setattr(export, "PIECE", 3)
    found = resolved(alice, title="Errors | in *production*")
    who = Actor(alice).who
    first = notes.add(found.pk, who, "checkout answers 500\nin all regions")
    wrong = notes.add(found.pk, who, "it is the pool, surely")
    notes.add(found.pk, who, "somebody called", timezone.now() - timedelta(days=1))
    add(found, Kind.OPERATION, "Deployed", data={"ratio": 0.12, "whole": 3.0, "text": "é\u2028“x”"})
    with transaction.atomic():
        row = timeline.locked(found.pk)
        timeline.edit(row, who, first, "checkout answers 503", "wrong number")
        timeline.hide(row, who, wrong, "it was not", hidden=True)
        timeline.pin(row, who, first, pinned=True)
    return Incident.objects.get(pk=found.pk)


def path_of(incident: Incident, form: str) -> str:
    return f"/incidents/{incident.pk}/timeline.{form}"


def verified(file: Path, *options: str) -> str:
    out = io.StringIO()
    call_command("verify_timeline", str(file), *options, stdout=out)
    return out.getvalue()


class TestJson:
    def test_holds_everything_and_proves_itself(self, dana: Person, incident: Incident, tmp_path: Path) -> None:
        status, text = download(dana, path_of(incident, "json"))
        assert status == 200
        told = json.loads(text)
        assert told["head"] == {"seq": incident.last_seq, "hash": incident.head_hash}
        assert [row["seq"] for row in told["entries"]] == list(range(1, incident.last_seq + 1))
        file = tmp_path / "timeline.json"
        file.write_text(text)
        assert verified(file) == f"{incident.last_seq} entries hold. Head: {incident.head_hash}\n"
        assert verified(file, "--expect", incident.head_hash).startswith(str(incident.last_seq))

    def test_ends_where_it_began_to_be_read(self, dana: Person, incident: Incident) -> None:
        @async_to_sync
        async def read() -> str:
            return "".join([piece async for piece in export.as_json(incident)])

        add(incident, Kind.NOTE, "written meanwhile")
        assert export.check(io.StringIO(read())) == (incident.last_seq, incident.head_hash)


Tamper = Callable[[dict[str, Any]], object]
TAMPERED: dict[str, tuple[Tamper, str]] = {
    "a word": (lambda told: told["entries"][4].update(text="nothing happened"), "entry 5 was changed"),
    "a time": (lambda told: told["entries"][4].update(at="2020-01-01T00:00:00.000000+00:00"), "entry 5 was changed"),
    "who": (lambda told: told["entries"][4].update(actor_id=99), "entry 5 was changed"),
    "data": (lambda told: told["entries"][1]["data"].update(more=1), "entry 2 was changed"),
    "one left out": (lambda told: told["entries"].pop(3), "entry 4 is missing"),
    "the last ones left out": (lambda told: told["entries"].pop(), "not the last one"),
    "two exchanged": (lambda told: told["entries"].insert(2, told["entries"].pop(3)), "entry 3 is missing"),
    "a field left out": (lambda told: told["entries"][2].pop("tone"), "entry 3 does not have the fields"),
    "a field more": (lambda told: told["entries"][2].update(signed="yes"), "entry 3 does not have the fields"),
    "of another incident": (lambda told: told.update(incident=0), "entry 1 is of incident"),
    "no head": (lambda told: told.pop("head"), "names no head"),
    "another count": (lambda told: told["head"].update(seq=3), "said to be number 3"),
    "no entries": (lambda told: told.update(entries=None), "it has no entries"),
}


OTHERS = ("", "[]", "{", '{"entries": [1]}', '{"entries": [], "head": {"hash": 1}}', "[" * 9999)


class TestTampering:
    @pytest.mark.parametrize("what", TAMPERED)
    def test_is_found_and_named(self, what: str, dana: Person, incident: Incident, tmp_path: Path) -> None:
        tamper, words = TAMPERED[what]
        told = json.loads(download(dana, path_of(incident, "json"))[1])
        tamper(told)
        file = tmp_path / "timeline.json"
        file.write_text(json.dumps(told))
        with pytest.raises(CommandError, match=words):
            verified(file)

    def test_with_all_hashes_computed_anew_is_found_by_the_head_that_was_kept(
        self, dana: Person, incident: Incident
    ) -> None:
        told = json.loads(download(dana, path_of(incident, "json"))[1])
        told["entries"][2]["text"] = "nothing happened"
        before = timeline.GENESIS
        for row in told["entries"]:
            row["previous_hash"] = before
            row["hash"] = before = timeline.digest({key: value for key, value in row.items() if key != "hash"})
        told["head"]["hash"] = before
        forged = json.dumps(told)
        assert export.check(io.StringIO(forged))[0] == incident.last_seq
        with pytest.raises(Broken, match="not the one that was expected"):
            export.check(io.StringIO(forged), incident.head_hash)

    @pytest.mark.parametrize("text", OTHERS)
    def test_other_files_are_refused_in_words(self, text: str, tmp_path: Path) -> None:
        file = tmp_path / "other.json"
        file.write_text(text)
        with pytest.raises(CommandError, match="broken"):
            verified(file)

    def test_no_file_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="cannot be read"):
            verified(tmp_path / "none.json")


class TestMarkdown:
    def test_tells_what_people_see(self, dana: Person, incident: Incident) -> None:
        status, text = download(dana, path_of(incident, "md"))
        assert status == 200
        assert text.startswith("# P1 · Errors \\| in \\*production\\*\n")
        assert "**pinned** checkout answers 503 (note, Alice, edited 1×)" in text
        assert "in all regions" not in text
        assert "surely" not in text
        assert "Acknowledged" in text
        assert text.endswith(f"Entry {incident.last_seq} is the last one. Its hash: `{incident.head_hash}`\n")

    def test_is_in_the_order_in_which_things_happened(self, dana: Person, incident: Incident) -> None:
        text = download(dana, path_of(incident, "md"))[1]
        days = [line for line in text.splitlines() if line.startswith("## ")]
        assert len(days) >= 2
        assert days == sorted(days)
        assert text.index("somebody called") < text.index("Opened as P1")
        shown = incident.timeline.exclude(kind__in=[Kind.EDIT, Kind.PIN, Kind.HIDE]).count() - 1
        assert sum(line.startswith("- `") for line in text.splitlines()) == shown

    def test_is_not_led_astray_by_what_people_wrote(self) -> None:
        assert escaped("# x\n- <b>*[a](b)*") == "\\# x - \\<b\\>\\*\\[a\\](b)\\*"


@pytest.mark.django_db
class TestWhoMay:
    @pytest.fixture
    def there(self, alice: Person, estate: Estate) -> Incident:
        return resolved(alice)

    def test_nobody_without_a_role_in_its_environments(self, client: Client, there: Incident, charlie: Person) -> None:
        for reader in (charlie, person("frank", staging=Role.ADMIN)):
            client.force_login(reader)
            for form in ("json", "md"):
                assert client.get(path_of(there, form)).status_code == 404

    def test_other_formats_are_not_there(self, client: Client, there: Incident, dana: Person) -> None:
        client.force_login(dana)
        assert client.get(path_of(there, "pdf")).status_code == 404

    def test_strangers_sign_in_first(self, client: Client, there: Incident) -> None:
        assert client.get(path_of(there, "md")).status_code == 302
