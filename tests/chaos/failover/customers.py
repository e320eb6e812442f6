"""Who judges: a customer that writes to whatever the name says, and one that stays with whom it knows until refused.

Both remember what they were told is committed, at which site and when. Neither knows anything of the control plane.
"""

import http.client
import threading
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from controlplane.embedded.name_switch import SITE_HEADER
from tests.chaos.failover.sites import Pair

PACE_SECONDS = 0.04
INSERT = "INSERT INTO orders (id, customer, cents, site) VALUES (%s, %s, 1, %s)"
PARAMETERS: dict[str, Any] = {"connect_timeout": 2, "options": "-c statement_timeout=3000"}


@dataclass(frozen=True)
class Acknowledged:
    """One order. begun, at: seconds since 1970, before it was sent and after it was acknowledged."""

    order: str
    site: str
    begun: float
    at: float


@dataclass
class Customer:
    """stubborn: it asks for the site only when it was refused, as somebody does whose resolver is out of date."""

    pair: Pair
    port: int
    stubborn: bool
    acknowledged: deque[Acknowledged] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._connection: psycopg.Connection[Any] | None = None
        self._site = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self.stopping.wait(PACE_SECONDS):
            try:
                self._order()
            except (OSError, http.client.HTTPException, psycopg.Error):
                self._leave()
        self._leave()

    def _order(self) -> None:
        if not (self.stubborn and self._connection):
            site = self._ask()
            if site != self._site:
                self._leave()
            self._site = site
        if self._connection is None:
            self._connection = psycopg.connect(self.pair.url(self._site), autocommit=True, **PARAMETERS)
        order, begun = str(uuid.uuid4()), time.time()
        self._connection.execute(INSERT, [order, "stubborn" if self.stubborn else "flexible", self._site])
        self.acknowledged.append(Acknowledged(order, self._site, begun, time.time()))

    def _ask(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/version")
            with connection.getresponse() as answer:
                answer.read()
            site = answer.headers.get(SITE_HEADER, "")
            if answer.status != 200 or not site:
                raise OSError("nobody serves")
            return site
        finally:
            connection.close()

    def _leave(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


def two_primaries(orders: list[Acknowledged], old: str, new: str) -> int:
    """Orders that the old site took after the new one had acknowledged its first; by their beginnings, so that no
    moment between two looks at a clock counts.
    """
    first = min((one.at for one in orders if one.site == new), default=None)
    return 0 if first is None else sum(one.site == old and one.begun > first for one in orders)
