"""The customers of the demo: they order all the time at whatever site the public name leads to, and remember it.

It is started as `python -m controlplane.embedded.clients [--folder DIR] [--name api.pitchey.com]` (by default the
folder that DATA_DIR names), and knows nothing of the control plane. Five customers order once a second each:

1. One asks for /version by the public name. An answer that is not 200 is a failed order.
2. The answer says which site it is from, and names.json which database that site's applications write to. The order
   is written there, as the applications' role; the sample service cannot do it, as it has no PostgreSQL in it.
3. Once it is committed it counts as acknowledged, and only then is it written down. One whose connection was lost in
   between is not: the row may be there all the same, which is no loss.

    DIR/clients/orders.jsonl    {"id", "at", "site", "customer"}: each acknowledged order; the file before it is
                                orders.1.jsonl, and no third one is kept
    DIR/clients/seconds.jsonl   {"at", "ok": {site: orders}, "failed": {site: orders}, "words"} for each second; site
                                "" for an order that reached none
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from .name_switch import SITE_HEADER, read_names

NAME = "api.pitchey.com"
CUSTOMERS = 5
PACE_SECONDS = 1.0
HTTP_TIMEOUT = 2.0
# A server that is frozen says nothing at all: then the connection is cut, as a pool of connections does.
ORDER_SECONDS = 4.0
OPENING_SECONDS = 60.0
FILE_BYTES = 4_000_000
PARAMETERS: dict[str, Any] = {
    "connect_timeout": 2, "options": "-c statement_timeout=3000", "application_name": "customers",
}  # fmt: skip
INSERT = "INSERT INTO orders (id, customer, cents, site) VALUES (%s, %s, %s, %s)"


class Failed(Exception):
    """An order that was not acknowledged. site: how far it came, "" for nowhere."""

    def __init__(self, site: str, words: str) -> None:
        super().__init__(words)
        self.site = site


class Record:
    """What is remembered, in files that do not grow without end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._ok: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._words = ""

    def acknowledged(self, order: str, site: str, customer: str) -> None:
        """An order that is committed."""
        with self._lock:
            self._ok[site] += 1
            self._append("orders", {"id": order, "at": round(time.time(), 3), "site": site, "customer": customer})

    def failed(self, site: str, words: str) -> None:
        """One that is not."""
        with self._lock:
            self._failed[site] += 1
            self._words = words

    def end_second(self, at: int) -> None:
        """Write down what was heard since the last one. at: seconds since 1970."""
        with self._lock:
            self._append("seconds", {"at": at, "ok": self._ok, "failed": self._failed, "words": self._words[:200]})
            self._ok, self._failed, self._words = Counter(), Counter(), ""

    def _append(self, name: str, line: dict[str, Any]) -> None:
        """With one write, which no crash can tear."""
        path = self.folder / f"{name}.jsonl"
        with suppress(FileNotFoundError):
            if path.stat().st_size > FILE_BYTES:
                path.replace(self.folder / f"{name}.1.jsonl")
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)


@dataclass
class Customer:
    """Orders, one after the other. folder: the data folder; name: the public name."""

    folder: Path
    name: str
    number: int
    record: Record
    since: float | None = None  # by time.monotonic(): when the order that is under way began
    _connection: psycopg.Connection[Any] | None = None
    _url: str = ""
    _source: random.Random = field(default_factory=random.Random)

    def run(self, stopping: threading.Event) -> None:
        """Until it is time to stop."""
        due = time.monotonic() + PACE_SECONDS * self.number / CUSTOMERS
        while not stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + PACE_SECONDS, time.monotonic())
            self.since = time.monotonic()
            try:
                self.order()
            except Failed as failure:
                self.record.failed(failure.site, str(failure))
            finally:
                self.since = None
        self.leave()

    def order(self) -> None:
        """One order. Raises Failed when it is not acknowledged."""
        entry = (read_names(self.folder) or {}).get(self.name, {})
        site = ask(int(entry.get("port") or 0))
        database = entry.get("sites", {}).get(site, {}).get("database", "")
        order = str(uuid.uuid4())
        try:
            connection = self._connect(self._read(database))
            connection.execute(INSERT, [order, f"customer-{self.number}", self._source.randint(100, 50_000), site])
        except (psycopg.Error, OSError) as error:
            self.leave()
            raise Failed(site, f"the database of {site}: {said(error)}") from error
        self.record.acknowledged(order, site, f"customer-{self.number}")

    def cut(self) -> None:
        """Another thread's way to end an order that takes too long."""
        connection = self._connection
        if connection is None:
            return
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)

    def _read(self, reference: str) -> str:
        """The URL behind "file:PATH". Raises OSError."""
        kind, _, path = reference.partition(":")
        if kind != "file" or not path:
            raise OSError("nobody says which one it is")
        return (self.folder / "secrets" / path).read_text().strip()

    def _connect(self, url: str) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed or url != self._url:
            self.leave()
            self._connection = psycopg.connect(url, autocommit=True, **PARAMETERS)
            self._url = url
        return self._connection

    def leave(self) -> None:
        """Close its connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


def ask(port: int) -> str:
    """Ask for /version by the public name's port; the site that answered. Raises Failed."""
    if not port:
        raise Failed("", "the name has no address")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_TIMEOUT)
    try:
        connection.request("GET", "/version")
        with connection.getresponse() as response:
            response.read()
        site = response.headers.get(SITE_HEADER, "")
        if response.status != 200 or not site:
            raise Failed(site, f"{site} answered {response.status}" if site else "the name stands for nobody")
        return site
    except (OSError, http.client.HTTPException) as error:
        raise Failed("", f"no answer: {said(error)}") from error
    finally:
        connection.close()


def said(error: Exception) -> str:
    """The first line of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_open(folder: Path, name: str) -> bool:
    """Whether somebody answers by the name already."""
    try:
        ask(int((read_names(folder) or {}).get(name, {}).get("port") or 0))
    except Failed:
        return False
    return True


def keep_books(customers: list[Customer], record: Record, stopping: threading.Event) -> None:
    """A line each second; an order that takes too long is cut."""
    while not stopping.wait(1.0 - time.time() % 1.0):
        now = time.monotonic()
        for customer in customers:
            since = customer.since
            if since is not None and now - since > ORDER_SECONDS:
                customer.cut()
        record.end_second(int(time.time()) - 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The demo's customers.")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("DATA_DIR", ".")))
    parser.add_argument("--name", default=NAME)
    options = parser.parse_args(arguments)
    folder = options.folder / "clients"
    folder.mkdir(mode=0o700, exist_ok=True)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.set())
    # Instances and switch start at the same time: that is no failure of anybody.
    opening = time.monotonic() + OPENING_SECONDS
    while not is_open(options.folder, options.name) and time.monotonic() < opening and not stopping.wait(0.2):
        pass
    record = Record(folder)
    customers = [Customer(options.folder, options.name, number, record) for number in range(1, CUSTOMERS + 1)]
    threads = [threading.Thread(target=one.run, args=[stopping], daemon=True) for one in customers]
    for thread in threads:
        thread.start()
    keep_books(customers, record, stopping)
    deadline = time.monotonic() + 1.0
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
