"""The hub of one process: hears every ring, and knows who watches what.

It needs three connections to PostgreSQL and one to Redis, however many people watch.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import redis
import redis.asyncio
from django.core.exceptions import PermissionDenied
from django.http import Http404
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from controlplane.live.readers import Readers
from controlplane.live.ring import CHANNEL, NEWS
from controlplane.live.sources import WORDS, Source
from controlplane.live.topics import Topic
from controlplane.live.viewers import Closing, Scope, Viewer

logger = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
ADMISSION_SECONDS = 60.0
BLOCKED_SECONDS = 10.0
BEHIND_BYTES = 1024 * 1024
REDIS_PAUSE_SECONDS = 1.0
# Without Redis nobody can say what is new, so from time to time everything may be.
DEAF_NEWS_SECONDS = 5.0

# Who the request comes from; None for nobody. Runs in a thread and may use the database.
Authenticate = Callable[[Scope], Any]


class NotSignedIn(Exception):
    """The request comes from nobody we know."""


class Hub:
    """All topics with at least one viewer."""

    def __init__(self, redis_url: str, authenticate: Authenticate) -> None:
        self._url = redis_url
        self._authenticate = authenticate
        self.topics: dict[str, Topic] = {}
        self._live = Readers(1, "live")
        self._replay = Readers(2, "replay")
        self._deaf = True
        # The subscription, each with a name of its own; its rings, and at which of them each word came last.
        self._ears = ""
        self._rings = 0
        self._rung: dict[str, int] = {}
        self._tasks = [asyncio.create_task(work) for work in (self._listen(), self._close_slow(), self._admit_again())]

    async def stop(self) -> None:
        """End every stream, task and thread."""
        self.end_streams()
        for topic in self.topics.values():
            topic.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._live.stop()
        await self._replay.stop()

    def end_streams(self) -> None:
        """Tell every viewer that it is over here; each comes back with its cursor, to another process."""
        for topic in self.topics.values():
            for viewer in list(topic.viewers):
                viewer.close(Closing.STOPPED)

    # --- What was heard -----------------------------------------------------------------------------

    @property
    def heard(self) -> str:
        """How far it has heard the news: a page that is made from now on lacks only what comes after. "" while deaf."""
        return "" if self._deaf else f"{self._ears}-{self._rings}"

    def missed(self, heard: str) -> set[str]:
        """The words of the news since then; all there are, where nobody can say."""
        ears, _, rings = heard.partition("-")
        if self._deaf or ears != self._ears:
            return set(WORDS)
        return {word for word, ring in self._rung.items() if ring > int(rings)}

    # --- Who may, and who watches -----------------------------------------------------------------

    async def admit(self, scope: Scope, source: Source | None, key: str) -> None:
        """Return if the request may follow the key; else raise NotSignedIn, PermissionDenied or Http404."""

        def ask() -> None:
            viewer = self._authenticate(scope)
            if viewer is None:
                raise NotSignedIn
            if source is not None:
                source.authorize(viewer, key)

        await self._replay.run(ask)

    async def join(self, source: Source | None, key: str, viewer: Viewer) -> Topic:
        """Make the viewer a member; returns its topic, started. Whoever joins must leave."""
        name = f"{source.prefix}/{key}" if source else NEWS
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = Topic(source, key, self._live, self._replay)
            topic.deaf = self._deaf
        topic.viewers.add(viewer)
        try:
            await topic.start()
        except BaseException:
            self.leave(topic, viewer)
            raise
        return topic

    def leave(self, topic: Topic, viewer: Viewer) -> None:
        """The viewer watches no more; the last one ends the topic."""
        topic.viewers.discard(viewer)
        if not topic.viewers:
            topic.stop()
            self.topics = {name: other for name, other in self.topics.items() if other is not topic}

    # --- What it does all the time ----------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear the rings; while Redis is away, let the topics look by themselves."""
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            try:
                await self._listen_once()
            except (redis.RedisError, OSError) as error:
                if not self._deaf:
                    logger.warning("Redis is away, so streams poll until it is back: %s", error)
            self._set_deaf(True)
            if loop.time() - looked_at >= DEAF_NEWS_SECONDS:
                looked_at = loop.time()
                self._look()
            await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def _listen_once(self) -> None:
        client = redis.asyncio.Redis.from_url(
            self._url, socket_connect_timeout=1.0, socket_timeout=None, retry=Retry(NoBackoff(), 0)
        )
        async with client, client.pubsub() as subscription:
            await subscription.subscribe(CHANNEL)
            async for message in subscription.listen():
                if message["type"] == "subscribe":
                    self._ears = uuid4().hex
                    self._set_deaf(False)
                    self._look()
                elif message["type"] == "message":
                    self._hear(message["data"].decode())

    def _set_deaf(self, deaf: bool) -> None:
        self._deaf = deaf
        for topic in self.topics.values():
            topic.deaf = deaf

    def _look(self) -> None:
        for topic in self.topics.values():
            topic.look()

    def _hear(self, ring: str) -> None:
        name, _, text = ring.partition(" ")
        if name == NEWS:
            self._rings += 1
            self._rung |= dict.fromkeys(text.split(), self._rings)
            for topic in self.topics.values():
                topic.tell(text.split())
        elif name in self.topics:
            self.topics[name].ring(text)

    async def _close_slow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            for topic in self.topics.values():
                topic.close_slow(loop.time(), BLOCKED_SECONDS, BEHIND_BYTES)

    async def _admit_again(self) -> None:
        """Close the streams of those who signed out, were locked out, or lost the right to see it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            for topic in list(self.topics.values()):
                for viewer in list(topic.viewers):
                    if loop.time() - viewer.admitted_at >= ADMISSION_SECONDS:
                        await self._admit_one_again(topic, viewer)

    async def _admit_one_again(self, topic: Topic, viewer: Viewer) -> None:
        viewer.admitted_at = asyncio.get_running_loop().time()
        try:
            await self.admit(viewer.scope, topic.source, topic.key)
        except (NotSignedIn, PermissionDenied, Http404):
            viewer.close(Closing.REFUSED)
        except Exception:
            logger.exception("cannot tell whether a viewer may go on; asking again in %d s", ADMISSION_SECONDS)
