"""The real Prometheus and Alertmanager of Debian: an error rate crosses its bound, and a P1 page arrives.

Both run with what we export; alerts go to a real web process, and a real clock turns them into an incident and pages.
Skipped with the reason where the two are not installed (Debian's packages prometheus and prometheus-alertmanager).
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
import yaml
from django.core.management import call_command
from django.db import connection

from controlplane.accounts.models import Person
from controlplane.embedded.processes import free_port, wait_until
from incidents.intake.gate import digest_of
from incidents.models import Alert, AlertSource, Delivery, Incident, IncidentRule, RuleState
from incidents.rules import prometheus
from tests.estate import Estate
from tests.incidents.escalating import matrix, reachable
from tests.incidents.rules_world import make_rule

ROOT = Path(__file__).parents[2]
PROGRAMS = ("prometheus", "prometheus-alertmanager")
ABSENT = [name for name in PROGRAMS if shutil.which(name) is None]
TOKEN = "a-token-for-alertmanager-1"
PATIENCE = 60  # seconds, for each thing that has to happen; what is waited for is mostly there in five

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)} (Debian packages of these names)"),
]


class Service:
    """A service with the guide's metrics: each time it is asked, some more requests were answered, well or badly."""

    def __init__(self) -> None:
        self.good, self.bad = 100, 0
        self._totals = {"200": 0, "500": 0}
        self._lock = Lock()

    def text(self) -> str:
        """As prom-client writes it."""
        with self._lock:
            self._totals["200"] += self.good
            self._totals["500"] += self.bad
            lines = [f'http_requests_total{{method="GET",route="/",status="{status}"}} {total}'
                     for status, total in self._totals.items() if total]  # fmt: skip
        return "\n".join(["# TYPE http_requests_total counter", *lines, ""])


@dataclass(frozen=True)
class Site:
    """What runs. prometheus: its address."""

    service: Service
    prometheus: str
    folder: Path

    def logs(self) -> str:
        """The last words of each process, for who reads a failure."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))


@pytest.fixture
def site(estate: Estate, alice: Person, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    """Our web process and clock, Prometheus and Alertmanager, and the service they watch."""
    AlertSource.objects.create(slug="prometheus", kind=AlertSource.Kind.ALERTMANAGER, token_digest=digest_of(TOKEN))
    IncidentRule.objects.create(
        slug="critical", matchers=[{"label": "severity", "op": "=", "value": "critical"}],
        group_by=["alertname", "environment"], severity="P1",
    )  # fmt: skip
    matrix([reachable(alice, pagerduty="routing-key-1")], ["pagerduty"])
    make_rule(for_seconds=2)
    service = Service()
    web, manager, server = (free_port() for _ in range(3))
    (tmp_path / "token").write_text(TOKEN)
    _export(capsys, "prometheus", tmp_path / "rules.yml")
    _export(capsys, "alertmanager", tmp_path / "alertmanager.yml", "--credentials", str(tmp_path / "token"),
            "--url", f"http://127.0.0.1:{web}")  # fmt: skip
    with ExitStack() as running:
        metrics = running.enter_context(Metrics(service))
        (tmp_path / "prometheus.yml").write_text(_configuration(metrics, manager))
        python = [sys.executable, "-P", "-m", "uvicorn", "controlplane.asgi:application", "--port", str(web)]
        commands = {
            "web": [*python, "--no-access-log", "--timeout-graceful-shutdown", "1"],
            "clock": [sys.executable, "-P", "manage.py", "clock"],
            "alertmanager": ["prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yml",
                             f"--storage.path={tmp_path}/alerts", f"--web.listen-address=127.0.0.1:{manager}",
                             "--cluster.listen-address="],
            "prometheus": ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
                           f"--storage.tsdb.path={tmp_path}/series", f"--web.listen-address=127.0.0.1:{server}"],
        }  # fmt: skip
        site = Site(service, f"http://127.0.0.1:{server}", tmp_path)
        for name, command in commands.items():
            running.callback(_stop, _start(command, tmp_path / f"{name}.log", PROMETHEUS_URL=site.prometheus))
        for port, path in ((web, "/healthz"), (manager, "/-/ready"), (server, "/-/ready")):
            address = f"http://127.0.0.1:{port}{path}"
            assert wait_until(lambda address=address: _answers(address), PATIENCE), site.logs()  # type: ignore[misc]
        yield site


def _export(capsys: pytest.CaptureFixture[str], form: str, to: Path, *options: str) -> None:
    call_command("export_rules", "--format", form, *options)
    to.write_text(capsys.readouterr().out)


def _configuration(metrics: int, manager: int) -> str:
    target = {"targets": [f"127.0.0.1:{metrics}"], "labels": {"environment": "production"}}
    return yaml.safe_dump({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager}"]}]}]},
        "scrape_configs": [{"job_name": "pitchey-backend", "static_configs": [target]}],
    })  # fmt: skip


class Metrics:
    """The service's /metrics, for as long as the block lasts; gives the port."""

    def __init__(self, service: Service) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = service.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> int:
        Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _start(command: list[str], log: Path, **more: str) -> "subprocess.Popen[bytes]":
    url = urlsplit(os.environ["DATABASE_URL"])
    database = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    env = {**os.environ, "DATABASE_URL": database, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **more}
    with log.open("wb") as out:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(address: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(address).is_success
    return False


def _rate(site: Site) -> float | None:
    return prometheus.read(site.prometheus, ["error_rate"], ["production"])["production", "error_rate"].value


def _said_by(source: str) -> str | None:
    """The state of its alert; None as long as there is none."""
    alerts = Alert.objects.filter(source__slug=source, name="HighErrorRate")
    return alerts.values_list("state", flat=True).first()


def _paged() -> bool:
    return Delivery.objects.filter(purpose=Delivery.Purpose.PAGE, incident__severity="P1").exists()


def test_from_a_failing_service_to_a_page(site: Site, alice: Person) -> None:
    assert wait_until(lambda: _rate(site) == 0.0, PATIENCE), site.logs()
    assert _said_by("prometheus") is None and not Incident.objects.exists()

    site.service.bad = 50  # of 150: far beyond one in twenty
    assert wait_until(_paged, PATIENCE), site.logs()
    assert wait_until(lambda: _said_by("prometheus") == _said_by("control-plane") == "firing", PATIENCE), site.logs()

    alert, incident = Alert.objects.get(source__slug="prometheus", name="HighErrorRate"), Incident.objects.get()
    labels = {"alertname": "HighErrorRate", "severity": "critical", "environment": "production",
              "rule": "high-error-rate", "notify": "pagerduty,slack"}  # fmt: skip
    assert alert.labels == labels
    assert "is above 5" in alert.annotations["description"]
    assert (incident.severity, incident.environments) == ("P1", ["production"])
    page = Delivery.objects.select_related("page__person").get(incident=incident, purpose=Delivery.Purpose.PAGE)
    assert page.page is not None and page.page.person == alice and page.channel == "pagerduty"

    # Our own clock asks the same server: what it found carries the same labels, and belongs to the same incident.
    assert wait_until(lambda: incident.alerts.count() == 2, PATIENCE), site.logs()
    assert [one.labels for one in incident.alerts.all()] == [labels, labels]
    assert Delivery.objects.filter(purpose=Delivery.Purpose.PAGE).count() == 1
    value = RuleState.objects.get().value
    assert value is not None and value > 0.05

    site.service.bad, site.service.good = 0, 1_000_000  # mended, and so busy that the window is soon full of it
    assert wait_until(lambda: _said_by("prometheus") == _said_by("control-plane") == "resolved", PATIENCE), site.logs()
