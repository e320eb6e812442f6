"""The ASGI application in front of the others: it answers POST /intake/… and passes everything else on.

1. Who is it? A bearer token, before the body is read; for PagerDuty the routing_key in it.
2. Is it too big, is it signed if it has to be?
3. Store it. Only then, 202. Nothing has looked at what it says.

Strangers can fill nothing: without a token no body is read, but for PagerDuty's, and of those only a few at once.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError

from incidents.intake.gate import RETRY_AFTER, Gate, Refusal, Source, routing_key_in
from incidents.intake.pagerduty import key_of_event
from incidents.intake.storing import Full, Store
from incidents.models import AlertSource

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX = "/intake/"
KINDS = {
    "/intake/alertmanager": AlertSource.Kind.ALERTMANAGER,
    "/intake/plain": AlertSource.Kind.PLAIN,
    "/intake/pagerduty": AlertSource.Kind.PAGERDUTY,
    "/intake/pagerduty/v2/enqueue": AlertSource.Kind.PAGERDUTY,
    "/v2/enqueue": AlertSource.Kind.PAGERDUTY,
}
LARGEST_BODY = 2**20  # bytes
BODY_SECONDS = 10.0
STRANGERS_AT_ONCE = 32
SENDERS_AT_ONCE = 512
COMMON_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"),
                  (b"x-content-type-options", b"nosniff")]  # fmt: skip
CLOSE = (b"connection", b"close")
TOO_BIG = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "A body of more than 1 MB is not taken.", CLOSE)
BUSY = "Too much comes in at once. Send it again in a moment."


class Gone(Exception):
    """The sender went away in the middle of its body."""


class IntakeApp:
    """POST /intake/alertmanager, /intake/pagerduty (also /v2/enqueue) and /intake/plain."""

    def __init__(self, following: Application) -> None:
        self._following = following
        self._gate = Gate()
        self._store = Store()
        self._strangers = 0
        self._senders = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path.startswith(PREFIX) or path in KINDS):
            await self._following(scope, receive, send)
            return
        kind = KINDS.get(path)
        try:
            answer = await self._take(kind, scope, receive)
        except Refusal as refusal:
            await _refuse(refusal, kind, send)
        except Gone:
            return
        else:
            await _answer(send, HTTPStatus.ACCEPTED, answer)

    async def _take(self, kind: str | None, scope: Scope, receive: Receive) -> dict[str, Any]:
        """Store a body; returns what to answer. Raises Refusal, Gone."""
        if kind is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"Alerts are taken at {', '.join(KINDS)}.", CLOSE)
        if scope["method"] != "POST":
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Alerts are sent with POST.", (b"allow", b"POST"), CLOSE)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        _check_headers(headers)
        try:
            if not self._gate.is_fresh:
                await self._store.run(self._gate.look)
            source, body = await self._admit(kind, headers, receive)
            if source.signing_secret:
                signature = headers.get(b"x-signature-256", "")
                await asyncio.to_thread(self._gate.check_signature, source, body, signature)
            number = await self._store.put(source.pk, body)
        except Full:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, RETRY_AFTER) from None
        except (DatabaseError, InterfaceError, psycopg.Error):
            words = "It cannot be stored now. Nothing was kept; send it again in a moment."
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, words, RETRY_AFTER) from None
        if kind == AlertSource.Kind.PAGERDUTY:
            key = json.loads(body).get("dedup_key") or key_of_event(number)
            return {"status": "success", "message": "Event processed", "dedup_key": key}
        return {"status": "stored", "number": number}

    async def _admit(self, kind: str, headers: dict[bytes, str], receive: Receive) -> tuple[Source, bytes]:
        """Who sends, and what. A bearer token is looked at before the body is."""
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        if kind == AlertSource.Kind.PAGERDUTY:
            if self._strangers >= STRANGERS_AT_ONCE:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, RETRY_AFTER, CLOSE)
            self._strangers += 1
            try:
                body = await _body(receive)
            finally:
                self._strangers -= 1
            return self._gate.admit(kind, routing_key_in(body)), body
        try:
            source = self._gate.admit(kind, token.strip() if scheme.lower() == "bearer" else "")
        except Refusal as refusal:
            raise Refusal(refusal.status, str(refusal), *refusal.headers, CLOSE) from None
        if self._senders >= SENDERS_AT_ONCE:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, RETRY_AFTER, CLOSE)
        self._senders += 1
        try:
            return source, await _body(receive)
        finally:
            self._senders -= 1


def _check_headers(headers: dict[bytes, str]) -> None:
    declared = headers.get(b"content-length", "")
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise TOO_BIG
    if headers.get(b"content-encoding", "identity").lower() != "identity":
        words = "Bodies are taken as they are; send it without Content-Encoding."
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, words, CLOSE)


async def _body(receive: Receive) -> bytes:
    """The whole body. Raises Refusal when it is too big or too slow, Gone."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part = message.get("body", b"")
                size += len(part)
                if size > LARGEST_BODY:
                    raise TOO_BIG
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        words = f"The body did not come within {BODY_SECONDS:.0f} s."
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, words, CLOSE) from None


async def _refuse(refusal: Refusal, kind: str | None, send: Send) -> None:
    problem: dict[str, Any] = {
        "title": refusal.status.phrase, "status": int(refusal.status), "detail": str(refusal)
    }  # fmt: skip
    if kind == AlertSource.Kind.PAGERDUTY:
        # What its clients look for.
        problem |= {"message": str(refusal), "errors": [str(refusal)]}
    headers = [(b"content-type", b"application/problem+json"), *COMMON_HEADERS[1:], *refusal.headers]
    await _answer(send, refusal.status, problem, headers)


async def _answer(
    send: Send, status: HTTPStatus, content: dict[str, Any], headers: list[tuple[bytes, bytes]] = COMMON_HEADERS
) -> None:
    body = json.dumps(content).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": int(status), "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
