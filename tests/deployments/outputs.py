"""Everything that the control plane puts out, as text to be searched for what must not be in it."""

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import NoReverseMatch, get_resolver, reverse

from controlplane.accounts.models import Person, Role
from controlplane.api import api
from controlplane.embedded.processes import wait_until
from tests.api.conftest import token
from tests.operations.test_masking import FORMS

Found = Iterator[tuple[str, str]]
END = b"the end of what is searched"
# A page that answers with a stream of its own would be waited for.
NO_PAGE = ("sign-out", "logout")


class Listener:
    """Hears every ring in Redis for the length of a block."""

    def __init__(self) -> None:
        self._client = redis.Redis.from_url(settings.REDIS_URL)
        self.heard: list[bytes] = []

    def __enter__(self) -> "Listener":
        self._channel: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._channel.psubscribe("*")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert wait_until(lambda: bool(self._client.pubsub_numpat()), 10)
        return self

    def _listen(self) -> None:
        for message in self._channel.listen():
            data = message["data"]
            if data == END:
                return
            self.heard.append(data if isinstance(data, bytes) else str(data).encode())

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
            yield f"key {key!r}", (stored or b"").decode("latin-1")


def database() -> Found:
    """Every row of every table, as JSON."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT row_to_json(whole_row_)::text FROM {table} AS whole_row_")
            for (row,) in cursor.fetchall():
                yield f"table {table}", row


def pages(person: Person, names: Mapping[str, Any]) -> Found:
    """Every page that needs no name, or only some of these, as this person gets it by GET."""
    client = Client(raise_request_exception=False)
    client.force_login(person)
    for name, (possibilities, *_) in sorted(_named().items()):
        for _, wanted in possibilities:
            known = {one: names[one] for one in wanted if one in names}
            if len(known) < len(wanted) or name in NO_PAGE:
                continue
            try:
                address = reverse(name, kwargs=known)
            except NoReverseMatch:
                continue
            answer: Any = client.get(address)
            content = answer.getvalue() if answer.streaming and not answer.is_async else b""
            yield f"page {address} ({answer.status_code})", (content or getattr(answer, "content", b"")).decode()


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


def forms_of(secret: str) -> dict[str, str]:
    """How it may be spelled: plain, in a URL, in base64, in hex, in JSON."""
    return {name: spelled(secret) for name, spelled in FORMS.items()}


def where(secret: str, found: Found) -> list[str]:
    """The places that have the secret in any form; JSON is searched as text and as what it says."""
    forms = set(forms_of(secret).values())
    return [place for place, text in found if any(form in text or form in _plain(text) for form in forms)]


def _plain(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False) if text[:1] in "{[" else ""
    except ValueError:
        return ""
