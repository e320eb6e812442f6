"""Everything that the control plane puts out, as text to be searched for what must not be in it."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ahocorasick
import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import NoReverseMatch, get_resolver, reverse

from controlplane.accounts.models import Person, Role
from controlplane.api import api
from controlplane.audit import export as audit_export
from controlplane.embedded.processes import wait_until
from incidents import export as incident_export
from incidents.models import Incident
from incidents.rules import export as rules_export
from tests.api.conftest import token
from tests.live.rows import Stream
from tests.operations.test_masking import FORMS

Found = Iterator[tuple[str, str]]
END = b"the end of what is searched"
NO_PAGE = ("sign-out", "logout")


class Listener:
    """Hears every ring in Redis for the length of a block."""

    def __init__(self) -> None:
        self._client = redis.Redis.from_url(settings.REDIS_URL)
        # What is stored is read as Redis dumps it, and a compressed secret is found by nobody.
        self._client.config_set("rdbcompression", "no")
        self.heard: list[bytes] = []

    def __enter__(self) -> "Listener":
        self._channel: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._channel.psubscribe("*")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert wait_until(lambda: bool(self._client.pubsub_numpat()), 40)
        return self

    def _listen(self) -> None:
        for message in self._channel.listen():
            if message["data"] == END:
                return
            if message["type"] == "pmessage":  # the first only says that it listens
                self.heard.append(message["data"])

    def __exit__(self, *error: object) -> None:
        self._client.publish("end", END)
        self._thread.join(10)
        self._channel.close()

    def said(self) -> Found:
        """The rings, and whatever is stored."""
        for number, data in enumerate(self.heard):
            yield f"ring {number}", data.decode(errors="replace")
        for key in self._client.scan_iter():
            stored: Any = self._client.dump(key)
            yield f"key {key!r}", (stored or b"").decode(errors="replace")


def database() -> Found:
    """Every row of every table, as JSON."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT row_to_json(whole_row_)::text FROM {table} AS whole_row_")
            for (row,) in cursor.fetchall():
                yield f"table {table}", row


def pages(person: Person, names: Mapping[str, Any], *, of: str = "") -> Found:
    """Every page that needs no name, or only some of these, as this person gets it by GET.

    of: only those that need this name.
    """
    client = signed_in(person)
    for name, (possibilities, *_) in sorted(_named().items()):
        for _, wanted in possibilities:
            known = {one: names[one] for one in wanted if one in names}
            if len(known) < len(wanted) or name in NO_PAGE or (of and of not in known):
                continue
            try:
                address = reverse(name, kwargs=known)
            except NoReverseMatch:
                continue
            yield page(client, address)


def signed_in(person: Person) -> Client:
    """Their browser; an error of the server's is a page too."""
    client = Client(raise_request_exception=False)
    client.force_login(person)
    return client


def page(client: Client, address: str) -> tuple[str, str]:
    """What is found at an address, to its end when it comes piece by piece."""
    answer: Any = client.get(address)
    content = async_to_sync(_whole)(answer) if answer.streaming else answer.content
    return f"page {address} ({answer.status_code})", content.decode()


async def _whole(answer: Any) -> bytes:
    if not answer.is_async:
        return b"".join(answer)
    return b"".join([part async for part in answer])


def downloads(person: Person, incident: Incident) -> Found:
    """Each file that is offered, in each of its forms: the audit trail, an incident's timeline, the alert rules."""
    client = signed_in(person)
    offered: tuple[tuple[str, dict[str, int], Iterable[str]], ...] = (
        ("audit-download", {}, audit_export.FORMATS), ("alert-rules-export", {}, rules_export.FORMATS),
        ("incident-export", {"pk": incident.pk}, incident_export.FORMATS),
    )  # fmt: skip
    for name, names, forms in offered:
        for form in forms:
            where, text = page(client, reverse(name, kwargs={**names, "form": form}))
            yield where.replace("page", "download"), text


def streamed(port: int, person: Person, path: str, last: int = 0) -> Found:
    """A live stream to its end; of something that waits for a person, to the message of that number."""
    stream = live(port, person, path)
    for message in stream.messages():
        yield f"stream {path}", f"{message.event} {message.data}"
        if message.event == "end" or message.id == f"{last}":
            break
    stream.close()


def live(port: int, person: Person, path: str) -> Stream:
    """A live stream, open."""
    return Stream(port, path, Cookie=f"{settings.SESSION_COOKIE_NAME}={signed_in(person).session.session_key}")


def _named() -> dict[str, Any]:
    return {name: ways[0] for name in get_resolver().reverse_dict if isinstance(name, str)
            for ways in [get_resolver().reverse_dict.getlist(name)]}  # fmt: skip


def answers(person: Person, names: Mapping[str, Any]) -> Found:
    """Every answer of the API to a GET, as far as these names go."""
    client = Client(raise_request_exception=False)
    headers = {"Authorization": f"Bearer {token(person, Role.ADMIN)}"}
    for path, methods in api.get_openapi_schema()["paths"].items():
        try:
            address = path.format(**names)
        except KeyError:
            continue
        if "get" in methods:
            answer = client.get(address, headers=headers)
            yield f"API {address} ({answer.status_code})", answer.content.decode()


def forms_of(secret: str) -> set[str]:
    """How it may be spelled: plain, in a URL, in base64, in hex, in JSON; and each of these in the midst of base64."""
    spelled = {spell(secret) for spell in FORMS.values()}
    return spelled | {form for one in spelled for form in _amid_base64(one)}


def _amid_base64(text: str) -> Iterator[str]:
    """As a part of something longer, such as a message of Celery's: what does not depend on what stands beside it."""
    raw = text.encode()
    for before in range(3):
        coded = b64encode(b"-" * before + raw + b"---").decode()
        inner = coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def where(secret: str, found: Found) -> list[str]:
    """The places that have the secret in any form; JSON is searched as text and as what it says."""
    forms = ahocorasick.Automaton()  # one pass, however many forms there are
    for form in forms_of(secret):
        forms.add_word(form, form)
    forms.make_automaton()
    return [place for place, text in found if any(next(forms.iter(one), None) for one in (text, _plain(text)))]


def _plain(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False) if text[:1] in "{[" else ""
    except ValueError:
        return ""
