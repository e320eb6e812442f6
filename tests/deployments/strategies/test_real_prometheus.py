"""A canary judged from the real Prometheus of Debian, which scrapes what the guide's services would expose.

Skipped with the reason where it is not installed (Debian's package prometheus).
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from controlplane.embedded.processes import free_port, wait_until
from controlplane.operations.states import State
from deployments.models import CanarySample, CanaryVerdict
from environments.models import Environment, Placement
from tests.deployments.strategies.conftest import Production
from tests.estate import paper

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="not installed: prometheus (Debian's package)"),
]
PATIENCE = 30
NAMES = ("production-1", "production-2", "production-3")
SETTINGS: dict[str, Any] = {"requests": 500, "interval_seconds": 0.2, "deadline_seconds": 60, "metrics": "prometheus"}


class Service(ThreadingHTTPServer):
    """An instance with the guide's metrics: 100 requests more at each scrape. bad: how many of them fail if it is new.

    Its counters begin anew with another release, as those of a process do.
    """

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.version = name, ""
        self.bad, self.seconds = 0, 0.02
        self.good_ones = self.bad_ones = 0
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A scrape that took too long has gone away."""

    def text(self) -> str:
        """As prom-client writes it."""
        version = paper.runs[self.name].version
        if version != self.version:
            self.version, self.good_ones, self.bad_ones = version, 0, 0
        new = version != "1.4.0"
        bad = self.bad if new else 0
        self.good_ones, self.bad_ones = self.good_ones + 100 - bad, self.bad_ones + bad
        total = self.good_ones + self.bad_ones
        failed = [f'http_requests_total{{method="GET",status="500"}} {self.bad_ones}'] if self.bad_ones else []
        return "\n".join([
            "# TYPE http_requests_total counter",
            f'http_requests_total{{method="GET",status="200"}} {self.good_ones}', *failed,
            "# TYPE http_request_duration_seconds summary",
            f"http_request_duration_seconds_sum {total * (self.seconds if new else 0.02)}",
            f"http_request_duration_seconds_count {total}", "",
        ])  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        content = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


@pytest.fixture
def services(production: Production, settings: Any, tmp_path: Path) -> Iterator[list[Service]]:
    """Production's three instances without a load balancer, and Prometheus, which knows them all."""
    with ExitStack() as running:
        made = [Service(name) for name in NAMES]
        for one in made:
            running.callback(one.server_close)
            running.callback(one.shutdown)
        Environment.objects.filter(slug="production").update(driver_settings={})
        instances = [{"name": one.name, "address": f"http://127.0.0.1:{one.server_port}"} for one in made]
        Placement.objects.filter(environment__slug="production").update(instances=instances)
        production.estate.production.refresh_from_db()
        target = {"targets": [f"127.0.0.1:{one.server_port}" for one in made], "labels": {"environment": "production"}}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": "300ms", "scrape_timeout": "300ms"},
            "scrape_configs": [{"job_name": "pitchey-backend", "static_configs": [target]}],
        }))  # fmt: skip
        settings.PROMETHEUS_URL = f"http://127.0.0.1:{free_port()}"
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/series",
                 f"--web.listen-address={settings.PROMETHEUS_URL.removeprefix('http://')}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        running.callback(process.wait)
        running.callback(process.kill)
        assert wait_until(lambda: _knows_all(settings.PROMETHEUS_URL), PATIENCE), log.name
        yield made


def _knows_all(base: str) -> bool:
    try:
        answer = httpx.get(f"{base}/api/v1/query", params={"query": "http_requests_total"}).json()
    except (httpx.HTTPError, ValueError):
        return False
    return len(answer["data"]["result"]) == len(NAMES)


def test_a_good_one_is_brought_to_all(production: Production, services: list[Service]) -> None:
    production.configure(**SETTINGS)
    operation = production.deploy()
    assert operation.state == State.SUCCEEDED, operation.outcome
    assert production.versions() == ["1.5.0"] * 3
    verdict = CanaryVerdict.objects.get(operation=operation)
    assert verdict.outcome == "good"
    assert ", answered in 20 ms; others 0 % of" in verdict.words
    rows = CanarySample.objects.filter(operation=operation)
    ours, theirs = sum(row.canary_requests for row in rows), sum(row.baseline_requests for row in rows)
    assert ours >= 500
    assert ours <= services[0].good_ones, "after its restart its counter began anew; nothing is counted twice"
    assert theirs == pytest.approx(2 * ours, rel=0.35), "scrapes of three instances are not of one moment"


def test_a_bad_one_is_put_back(production: Production, services: list[Service]) -> None:
    production.configure(**{**SETTINGS, "requests": 100_000})
    services[0].bad = 10
    operation = production.deploy()
    assert operation.state == State.FAILED
    assert "The canary fails more than the others: canary 10 % of" in operation.outcome
    assert production.versions() == ["1.4.0"] * 3


def test_a_slow_one_is_put_back(production: Production, services: list[Service]) -> None:
    production.configure(**{**SETTINGS, "requests": 100_000})
    services[0].seconds = 0.2
    operation = production.deploy()
    assert "The canary is more than 50 % slower than the others: canary 0 % of" in operation.outcome
    assert ", answered in 200 ms; others" in operation.outcome
    assert production.versions() == ["1.4.0"] * 3
