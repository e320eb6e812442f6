"""A server that answers as Prometheus does, with counters that grow while somebody looks: so many requests a look."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.estate import paper


@dataclass
class Meter:
    """instances: their label, by name. bad: so many of a hundred fail on what is not 1.4.0."""

    instances: dict[str, str]
    bad: int = 0
    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def answer(self) -> dict[str, Counter[str]]:
        """By the counter's name and the label."""
        for name, label in self.instances.items():
            self.requests[label] += 100
            self.errors[label] += self.bad if paper.runs[name].version != "1.4.0" else 0
        return {"requests": self.requests, "errors": self.errors}


@contextmanager
def serving(meter: Meter) -> Iterator[Meter]:
    """It listens for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            rows = [
                {"metric": {"instance": label, "counter": name}, "value": [1.0, str(value)]}
                for name, values in meter.answer().items() for label, value in values.items()
            ]  # fmt: skip
            body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": rows}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    meter.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield meter
    finally:
        server.shutdown()
        server.server_close()
