"""The ASGI application in front of Django's: it answers /live/… and passes everything else on.

A stream stays open for hours. In Django it would hold a thread and a database connection for as long; here it is one
small task (docs/live.md has the figures).
"""

import asyncio
import json
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import Http404
from django.utils.http import parse_header_parameters

from controlplane.live.hub import Authenticate, Hub, NotSignedIn
from controlplane.live.requests import HEARD, Refusal, StreamRequest, is_live
from controlplane.live.sources import WORDS
from controlplane.live.sse import RETRY, encode, news
from controlplane.live.topics import Topic
from controlplane.live.viewers import Closing, Message, Receive, Scope, Send, Viewer, body_message

Handler = Callable[[int, FrameType | None], Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]

RETRY_AFTER = (b"retry-after", b"2")
LARGEST_BODY = 2 * 2**20  # bytes; twice of what Django reads into memory
NOT_UTF_8 = "Only UTF-8 is read here. Send the request in UTF-8, with no other charset in its Content-Type."
_COMMON_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_STREAM_START = {
    "type": "http.response.start",
    "status": HTTPStatus.OK,
    "headers": [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no"), *_COMMON_HEADERS],
}


class LiveApp:
    """GET /live/<prefix>/<key>?after=N&as=html|json&heard=… and GET /live/news, as server-sent events.

    Django's requests carry in their scope how far the news has been heard (HEARD), for the page that is made of them.

    `authenticate` is given the scope of a request, in a thread, and returns who it comes from, or None.
    """

    def __init__(self, django_application: Application, *, authenticate: Authenticate) -> None:
        self._django = django_application
        self._authenticate = authenticate
        self._hub: Hub | None = None
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live_and_stop(receive, send)
        elif scope["type"] == "http" and not _is_utf_8(scope):
            await _refuse(Refusal(HTTPStatus.BAD_REQUEST, NOT_UTF_8), send)
        elif scope["type"] == "http" and is_live(scope["path"]):
            try:
                if self._stopping:
                    raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "This process stops. Try again.", RETRY_AFTER)
                await _serve(self._begin(), scope, receive, send)
            except Refusal as refusal:
                await _refuse(refusal, send)
        elif scope["type"] == "http":
            await self._pass_on(scope, receive, send)
        else:
            await self._django(scope, receive, send)

    def _begin(self) -> Hub:
        self._hub = self._hub or Hub(settings.REDIS_URL, self._authenticate)
        return self._hub

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To Django, which writes a body down before it asks anybody who they are: so not more than it may take."""
        if _declared_length(scope) > LARGEST_BODY:
            words = f"A body of more than {LARGEST_BODY // 2**20} MB is not read."
            await _refuse(Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words, (b"connection", b"close")), send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return message if taken <= LARGEST_BODY else {"type": "http.disconnect"}

        heard = self._hub.heard if self._hub else ""
        await self._django({**scope, HEARD: heard}, bounded, send)

    async def _live_and_stop(self, receive: Receive, send: Send) -> None:
        message = {"type": ""}
        while message["type"] != "lifespan.shutdown":
            message = await receive()
            if message["type"] == "lifespan.startup":
                _on_stop_signals(self._end_streams)
                self._begin()
            elif self._hub is not None:
                await self._hub.stop()
            await send({"type": f"{message['type']}.complete"})

    def _end_streams(self) -> None:
        self._stopping = True
        if self._hub is not None:
            self._hub.end_streams()


def _on_stop_signals(act: Callable[[], None]) -> None:
    """Act on the signals that stop the server, before it begins to wait for open requests.

    ASGI announces the stop only when all of them have ended, and a stream does not end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        server_handler = signal.getsignal(number)
        if callable(server_handler):
            signal.signal(number, partial(_act_and_pass_on, loop, act, server_handler))


def _act_and_pass_on(
    loop: asyncio.AbstractEventLoop,
    act: Callable[[], None],
    server_handler: Handler,
    number: int,
    frame: FrameType | None,
) -> None:
    loop.call_soon_threadsafe(act)
    server_handler(number, frame)


async def _serve(hub: Hub, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request. Raises Refusal as long as nothing has been sent."""
    request = StreamRequest.of(scope)
    try:
        await hub.admit(scope, request.source, request.key)
        if scope["method"] == "HEAD":
            await send(_STREAM_START)
            await send({"type": "http.response.body"})
            return
        viewer = Viewer(scope, request.form, send, asyncio.get_running_loop().time())
        topic = await hub.join(request.source, request.key, viewer)
    except NotSignedIn:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "Sign in, or send a valid API token.") from None
    except PermissionDenied as denied:
        raise Refusal(HTTPStatus.FORBIDDEN, str(denied) or "You may not see this.") from None
    except Http404:
        raise Refusal(HTTPStatus.NOT_FOUND, "There is no such thing, or you may not see it.") from None
    except DatabaseError:
        words = "The database cannot be reached. Try again in a moment."
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, words, RETRY_AFTER) from None
    try:
        await _stream(hub, topic, viewer, receive, request)
    finally:
        hub.leave(topic, viewer)


async def _stream(hub: Hub, topic: Topic, viewer: Viewer, receive: Receive, request: StreamRequest) -> None:
    watch = asyncio.create_task(_until_gone(receive))
    watch.add_done_callback(lambda _: viewer.close(Closing.GONE))
    try:
        await viewer.send(_STREAM_START)
        await _catch_up(hub, topic, viewer, request)
        await _follow(topic, viewer)
    except asyncio.CancelledError:
        viewer.closing = viewer.closing or Closing.STOPPED
    finally:
        watch.cancel()
    # Who was torn out of a write takes no more; all others hear that it is over.
    if not viewer.sending_since:
        await viewer.send({"type": "http.response.body"})


async def _catch_up(hub: Hub, topic: Topic, viewer: Viewer, request: StreamRequest) -> None:
    """Bring the viewer from its cursor to the topic's, and let it take hold of the chain."""
    told = topic.extras
    status = [row for row in told if row.event != "end"]
    await viewer.send(body_message(RETRY + encode(status, viewer.form)))
    after = request.after
    while viewer.closing is None and after != topic.cursor:
        if after < topic.cursor:
            page = await topic.page(after, viewer.form)
            after = page.last
            if page.bodies[viewer.form]:
                await viewer.send(body_message(page.bodies[viewer.form]))
        else:
            after = min(after, await topic.last())
            if after > topic.cursor:
                topic.ring()
                await viewer.wait()
    # From here on no await before the chunk is taken, or something would pass by.
    viewer.chunk = topic.tail
    # The news has no rows to be read later: who comes back, or has a page, is told what it may have missed.
    missed = WORDS if request.again else hub.missed(request.heard) if request.heard is not None else ()
    extras = topic.extras if topic.ended or topic.extras != told else ()
    if missed or extras:
        await viewer.send(body_message((news(missed) if missed else b"") + encode(extras, viewer.form)))
    if topic.ended:
        viewer.close(Closing.ENDED)


async def _follow(topic: Topic, viewer: Viewer) -> None:
    """Send each chunk as it comes."""
    while viewer.closing is None:
        assert viewer.chunk is not None
        chunk = viewer.chunk.following
        if chunk is None:
            await viewer.wait()
            continue
        viewer.chunk = chunk
        await viewer.send(chunk.messages[viewer.form])
        if chunk.ended:
            viewer.close(Closing.ENDED)


def _declared_length(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return int(declared) if declared.isdigit() else 0


def _is_utf_8(scope: Scope) -> bool:
    """Whether it says that its text is UTF-8, or says nothing about it, in a Content-Type that can be read.

    Django would read a form in whatever Python calls an encoding: "hex" and "idna" break it, and "utf-7" brings halves
    of characters, which no database stores. Of a Content-Type that it cannot read it makes no request at all.
    """
    said = b",".join(value for name, value in scope["headers"] if name == b"content-type")  # as Django joins them
    try:
        _, parameters = parse_header_parameters(said.decode("latin-1"))
    except ValueError:
        return False
    return parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(refusal: Refusal, send: Send) -> None:
    problem = {"title": refusal.status.phrase, "status": refusal.status, "detail": str(refusal)}
    headers = [(b"content-type", b"application/problem+json"), *_COMMON_HEADERS, *refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
