"""The log: opened at its end, read backwards and forwards, around a line, by a word, and as a file."""

import re
from datetime import UTC, datetime

import pytest
from asgiref.sync import async_to_sync
from django.template.loader import render_to_string
from django.test import AsyncClient, Client
from django.urls import reverse

from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.lines import LEVELS, Line
from controlplane.operations.models import Operation
from tests.operations.conftest import Ask
from tests.operations.recipes import World

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told(ask: Ask, world: World) -> Operation:
    """An operation with well over a thousand lines."""
    world.lines["one"] = [f"packet {n} of 1200 <sent>" for n in range(1, 1201)]
    operation = ask()
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def numbers(client: Client, person: Person, operation: Operation, **query: str | int) -> list[int]:
    client.force_login(person)
    answer = client.get(reverse("operation-log", args=[operation.pk]), query, headers={"HX-Request": "true"})
    return [int(seq) for seq in re.findall(r'<li id="L(\d+)"', answer.content.decode())]


def test_parts_of_it(client: Client, told: Operation, dana: Person) -> None:
    last = told.last_seq
    assert numbers(client, dana, told) == list(range(last - 499, last + 1))
    assert numbers(client, dana, told, before=700) == list(range(200, 700))
    assert numbers(client, dana, told, before=1) == []
    assert numbers(client, dana, told, after=last - 2) == [last - 1, last]
    assert numbers(client, dana, told, around=600) == list(range(350, 850))
    assert numbers(client, dana, told, tail=3) == [last - 2, last - 1, last]
    assert len(numbers(client, dana, told, q="PACKET 77 of")) == 1
    assert numbers(client, dana, told, q="packet%") == []


def test_nonsense_asks_for_the_end(client: Client, told: Operation, dana: Person) -> None:
    assert numbers(client, dana, told, before="x", around="-1", tail="9" * 30)[-1] == told.last_seq


def test_without_a_script_a_search_is_a_page(client: Client, told: Operation, dana: Person) -> None:
    client.force_login(dana)
    said = client.get(reverse("operation-log", args=[told.pk]), {"q": "packet 77 of"}).content.decode()
    assert "<html" in said
    assert "1 line with" in said
    assert "packet 77 of 1200 &lt;sent&gt;" in said


def test_the_whole_of_it_as_a_file(told: Operation, dana: Person) -> None:
    client = AsyncClient()
    client.force_login(dana)

    @async_to_sync
    async def download() -> tuple[str, str]:
        answer = await client.get(reverse("operation-log-download", args=[told.pk]))
        parts = [part async for part in answer.streaming_content]  # type: ignore[attr-defined]
        return answer.headers["Content-Disposition"], b"".join(parts).decode()

    disposition, text = download()
    assert disposition == f'attachment; filename="operation-{told.pk}.log"'
    assert len(text.splitlines()) == told.last_seq
    assert "packet 1200 of 1200 <sent>" in text


@pytest.mark.parametrize("kind", LEVELS)
def test_a_line_reads_like_its_template(kind: str) -> None:
    line = Line(7, datetime(2026, 3, 9, 4, 5, 6, 7089, UTC), kind, "one", "a <b> & 'c' \"d\"")
    as_object = {"seq": line.seq, "at": line.at, "text": line.text, "level": LEVELS[kind]}
    assert line.html == render_to_string("web/_log_line.html", {"line": as_object}).strip()
