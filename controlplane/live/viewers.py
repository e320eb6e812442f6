"""One open stream, and the chain of chunks it walks along."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from enum import Enum
from typing import Any

from controlplane.live.sse import Form

Scope = MutableMapping[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Closing(Enum):
    """Why a stream ends."""

    GONE = "the viewer left"
    BEHIND = "the viewer fell behind; it comes back with its cursor"
    REFUSED = "the viewer may no longer see it"
    STOPPED = "the process stops"
    ENDED = "nothing will follow"


class Chunk:
    """What all viewers of a topic get at one moment, encoded once, and the link to what comes after it.

    A viewer holds the chunk it got last. What everybody has is held by nobody, and so is gone: there is no queue.
    """

    __slots__ = ("ended", "following", "messages", "offset")

    def __init__(self, bodies: Mapping[Form, bytes], offset: int, *, ended: bool) -> None:
        self.messages = {form: body_message(body) for form, body in bodies.items()}
        # Bytes since the topic began, up to the end of this chunk.
        self.offset = offset + max(map(len, bodies.values()), default=0)
        self.ended = ended
        self.following: Chunk | None = None


def body_message(body: bytes) -> Message:
    """A part of a response, as ASGI wants it; may be shared by many responses."""
    return {"type": "http.response.body", "body": body, "more_body": True}


class Viewer:
    """One stream: who watches (by the scope of the request), in which form, and how far it is."""

    __slots__ = ("_send", "_task", "_waiter", "admitted_at", "chunk", "closing", "form", "scope", "sending_since")

    def __init__(self, scope: Scope, form: Form, send: Send, now: float) -> None:
        self.scope = scope
        self.form = form
        self.admitted_at = now
        self.chunk: Chunk | None = None
        self.closing: Closing | None = None
        self.sending_since = 0.0
        self._send = send
        self._waiter: asyncio.Future[None] | None = None
        self._task = asyncio.current_task()

    async def send(self, message: Message) -> None:
        """Write, or wait while the network takes nothing."""
        self.sending_since = asyncio.get_running_loop().time()
        await self._send(message)
        self.sending_since = 0.0

    async def wait(self) -> None:
        """Sleep until there is something to look at: a chunk, or the end."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """End the wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self, closing: Closing) -> None:
        """End the stream; the first reason counts. Who hangs in a write is torn out of it."""
        if self.closing is not None:
            return
        self.closing = closing
        if self.sending_since and self._task is not None:
            self._task.cancel()
        else:
            self.wake()
