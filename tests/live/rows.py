"""A source over two plain tables, and a browser that watches it."""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.http import Http404, parse_cookie

from controlplane.live.ring import ring
from controlplane.live.sources import Row

# Who is signed in, by the cookie `person`.
people: set[str] = set()


def authenticate(scope: dict[str, Any]) -> str | None:
    """The name in the cookie, as long as it is among `people`."""
    headers = dict(scope["headers"])
    name = parse_cookie(headers.get(b"cookie", b"").decode()).get("person", "")
    name = headers.get(b"authorization", b"").decode().removeprefix("Bearer ") or name
    return name if name in people else None


class Rows:
    """`/live/rows/<key>`: charlie may not see it, and nobody knows of the key "hidden"."""

    prefix = "rows"

    def authorize(self, viewer: str, key: str) -> None:
        if key == "hidden":
            raise Http404
        if viewer == "charlie":
            raise PermissionDenied("Only viewers may see these rows.")

    def last(self, key: str) -> int:
        return int(query("SELECT coalesce(max(seq), 0) FROM live_row WHERE key = %s", key)[0][0])

    def read(self, key: str, after: int, limit: int) -> list[Row]:
        sql = "SELECT seq, text FROM live_row WHERE key = %s AND seq > %s ORDER BY seq LIMIT %s"
        return [Row(seq, "line", f"<li>{text}</li>", f'"{text}"') for seq, text in query(sql, key, after, limit)]

    def extras(self, key: str) -> list[Row]:
        texts = [text for (text,) in query("SELECT text FROM live_status WHERE key = %s", key)]
        end = [Row(0, "end", "", "{}")] if "done" in texts else []
        return [*[Row(0, "status", f"<p>{text}</p>", f'"{text}"') for text in texts], *end]


def query(sql: str, *values: str | int) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def create() -> None:
    query("CREATE TABLE live_row (key text, seq bigint, text text, PRIMARY KEY (key, seq))")
    query("CREATE TABLE live_status (key text PRIMARY KEY, text text)")


def drop() -> None:
    query("DROP TABLE IF EXISTS live_row, live_status")


def say(key: str, *texts: str) -> int:
    """Add rows and ring; returns the last number."""
    last = Rows().last(key) + len(texts)
    with transaction.atomic():
        for seq, text in enumerate(texts, start=last - len(texts) + 1):
            query("INSERT INTO live_row VALUES (%s, %s, %s)", key, seq, text)
        transaction.on_commit(lambda: ring(f"rows/{key}", str(last)))
    return last


def set_status(key: str, text: str) -> None:
    """Change what is not a row, and ring."""
    query("INSERT INTO live_status VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET text = excluded.text", key, text)
    ring(f"rows/{key}")


@dataclass(frozen=True)
class Message:
    """One event as a browser gets it."""

    event: str
    data: str
    id: str = ""


class Stream:
    """A browser's end of one stream, or of the refusal it got."""

    def __init__(self, port: int, path: str, method: str = "GET", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        self.response = self._connection.getresponse()

    def messages(self) -> Iterator[Message]:
        """Messages as they come, comments and `retry` left out, until the stream ends."""
        fields: dict[str, list[str]] = {}
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields.setdefault(name, []).append(value)
            elif "event" in fields:
                yield Message(fields["event"][0], "\n".join(fields["data"]), "".join(fields.get("id", [])))
                fields = {}

    def until(self, event: str, data: str) -> list[Message]:
        """All messages but news, up to the one with this event and data."""
        found: list[Message] = []
        for message in self.messages():
            if message.event != "news":
                found.append(message)
            if (message.event, message.data) == (event, data):
                return found
        raise AssertionError(f"the stream ended before {event} {data!r}: {found}")

    def until_news(self, *words: str) -> list[Message]:
        """All messages up to the one after which all of these words have been heard."""
        missing, found = set(words), []
        for message in self.messages():
            found.append(message)
            missing -= set(message.data.split()) if message.event == "news" else set()
            if not missing:
                return found
        raise AssertionError(f"the stream ended before news of {missing}: {found}")

    def close(self) -> None:
        self.response.close()
        self._connection.close()
