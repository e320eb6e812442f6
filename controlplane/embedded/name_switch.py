"""The name switch of the demo: it stands for DNS and the load balancers of both sites, on loopback.

It is started as `python -I -S name_switch.py [--folder DIR]` (by default what DATA_DIR says), uses the standard
library only, and does for each public name what the file DIR/names.json says:

    {"api.pitchey.com": {"port": 23001, "ttl": 2.0, "site": "production",
                         "sites": {"production": {"instances": ["http://127.0.0.1:4101"], "database": "file:…"}}}}

1. For each name it listens on its port of 127.0.0.1. A name without a port is nobody's.
2. A request is forwarded to an instance of the site that the name stands for, in turn, among those whose /ready
   answers 200. Without any it answers 503, and the same where the name stands for no site.
3. What a name stands for is believed for `ttl` seconds, as resolvers do: so long a change may need to arrive.
4. Each answer says which site it is from (X-Site). GET /.switch tells what the name stands for, without an instance.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FILE = "names.json"
ASK = "/.switch"
SITE_HEADER = "X-Site"
LOOK_SECONDS = 0.1
HEALTH_SECONDS = 0.5
HEALTH_TIMEOUT = 1.0
FORWARD_TIMEOUT = 5.0
BODY_LIMIT = 1_000_000
NOT_OURS = ("connection", "transfer-encoding", "content-length", "server", "date", "keep-alive")


def read_names(folder: Path) -> dict[str, Any] | None:
    """What the file says; None if there is none, or if it cannot be read."""
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class Answer:
    """What a name stands for. site "": for nobody. until: by time.monotonic()."""

    site: str
    instances: tuple[str, ...]
    ttl: float
    until: float


@dataclass
class Switch:
    """What is known of all names and of the instances behind them."""

    folder: Path
    entries: Mapping[str, Any] = field(default_factory=dict)
    _answers: dict[str, Answer] = field(default_factory=dict)
    _well: dict[str, bool] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """Read the file anew; one that cannot be read changes nothing."""
        found = read_names(self.folder)
        if found is not None:
            self.entries = found

    def resolve(self, name: str) -> Answer:
        """As a resolver does: what was heard before counts until its time is over."""
        with self._lock:
            known = self._answers.get(name)
            if known is not None and time.monotonic() < known.until:
                return known
            entry = self.entries.get(name, {})
            site = str(entry.get("site", ""))
            instances = entry.get("sites", {}).get(site, {}).get("instances", [])
            ttl = float(entry.get("ttl", 0.0))
            answer = Answer(site, tuple(instances), ttl, time.monotonic() + ttl)
            self._answers[name] = answer
            return answer

    def in_turn(self, name: str, answer: Answer) -> list[str]:
        """The instances that may be asked, another one first each time; one that was never asked may be well."""
        well = [one for one in answer.instances if self._well.get(one, True)]
        if not well:
            return []
        with self._lock:
            turn = self._turns[name] = self._turns.get(name, -1) + 1
        first = turn % len(well)
        return well[first:] + well[:first]

    def is_ill(self, instance: str) -> None:
        """Somebody just tried."""
        self._well[instance] = False

    def check_health(self, pool: ThreadPoolExecutor) -> None:
        """Ask every instance of every site that a name stands for whether it is ready."""
        wanted = {one for name in list(self.entries) for one in self.resolve(name).instances}
        known = sorted(wanted)
        self._well.update(zip(known, pool.map(is_ready, known), strict=True))


def is_ready(instance: str) -> bool:
    """Whether its /ready answers 200."""
    connection = connection_to(instance, HEALTH_TIMEOUT)
    try:
        connection.request("GET", "/ready")
        with connection.getresponse() as response:
            return response.status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def connection_to(instance: str, timeout: float) -> http.client.HTTPConnection:
    """To the host and port of a URL."""
    parts = urllib.parse.urlsplit(instance)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)


class Front(ThreadingHTTPServer):
    """One name's port."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, switch: Switch, name: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.switch = switch
        self.name = name
        self.port = port

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up in the middle is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request to a name."""

    server: Front

    def do_GET(self) -> None:
        answer = self.server.switch.resolve(self.server.name)
        if self.path == ASK:
            told = {"name": self.server.name, "site": answer.site, "ttl": answer.ttl}
            return self.say(200, answer.site, json.dumps(told).encode())
        if not answer.site:
            return self.refuse(503, "", f"{self.server.name} stands for nobody just now")
        return self.forward(answer)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - their names in the library

    def forward(self, answer: Answer) -> None:
        """To one instance after the other, as long as none has had the request."""
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), BODY_LIMIT))
        for instance in self.server.switch.in_turn(self.server.name, answer):
            connection = connection_to(instance, FORWARD_TIMEOUT)
            try:
                connection.connect()
            except OSError:
                self.server.switch.is_ill(instance)
                continue
            try:
                return self.hand_on(connection, answer.site, body)
            except (OSError, http.client.HTTPException):
                self.server.switch.is_ill(instance)
                return self.refuse(502, answer.site, "the instance went away in the middle")
            finally:
                connection.close()
        return self.refuse(503, answer.site, f"no instance of {answer.site} is ready")

    def hand_on(self, connection: http.client.HTTPConnection, site: str, body: bytes) -> None:
        """Ask the instance, and answer as it does. Raises OSError and HTTPException while nothing was answered."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_OURS}
        connection.request(self.command, self.path, body or None, headers)
        with connection.getresponse() as response:
            content = response.read()
        self.say(response.status, site, content, dict(response.getheaders()))

    def refuse(self, status: int, site: str, words: str) -> None:
        self.say(status, site, json.dumps({"error": words}).encode())

    def say(self, status: int, site: str, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        with suppress(OSError):  # whoever asked may have gone
            self.send_response(status)
            for name, value in (headers or {"Content-Type": "application/json"}).items():
                if name.lower() not in NOT_OURS:
                    self.send_header(name, value)
            self.send_header(SITE_HEADER, site)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the library)
        """Nobody reads it."""


@dataclass
class Fronts:
    """The ports that are open, as the file says."""

    switch: Switch
    open: dict[str, Front] = field(default_factory=dict)
    refused: set[tuple[str, int]] = field(default_factory=set)

    def follow(self) -> None:
        """Open what is new, close what is gone."""
        wanted = {name: int(entry["port"]) for name, entry in self.switch.entries.items() if entry.get("port")}
        for name, front in list(self.open.items()):
            if wanted.get(name) != front.port:
                self.close(name)
        for name, port in wanted.items():
            if name not in self.open:
                self.begin(name, port)

    def begin(self, name: str, port: int) -> None:
        """A port that somebody else has is tried again each time, and said once."""
        try:
            front = self.open[name] = Front(self.switch, name, port)
        except OSError as error:
            if (name, port) not in self.refused:
                print(f"{name} cannot use port {port}: {error.strerror}", flush=True)
            self.refused.add((name, port))
            return
        self.refused.discard((name, port))
        threading.Thread(target=front.serve_forever, kwargs={"poll_interval": LOOK_SECONDS}, daemon=True).start()
        print(f"{name} is at 127.0.0.1:{port}", flush=True)

    def close(self, name: str) -> None:
        front = self.open.pop(name)
        front.shutdown()
        front.server_close()
        print(f"{name} is gone", flush=True)


def watch_health(switch: Switch) -> None:
    with ThreadPoolExecutor(8, thread_name_prefix="health") as pool:
        while True:
            switch.check_health(pool)
            time.sleep(HEALTH_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The demo's name switch: see names.json in the data folder.")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("DATA_DIR", ".")))
    options = parser.parse_args(arguments)
    switch = Switch(options.folder)
    fronts = Fronts(switch)
    switch.look()
    threading.Thread(target=watch_health, args=[switch], daemon=True).start()
    while True:
        switch.look()
        fronts.follow()
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
