"""Rolling deployments under load: 500 requests a second through HAProxy, three hosts, twenty deployments, good and bad.

The hosts are containers of one real Podman behind one real HAProxy, deployed by the driver `hosts` through the
operation engine. People ask from a process of their own (see `rolling_load`), each request once. Every fourth release
is bad: it answers 503 at /health, or ends right after its start. Which hosts it touched says Podman's own journal.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.embedded.podman import Podman, sample_container, why_not
from controlplane.embedded.processes import free_port, wait_until
from controlplane.operations import engine
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State
from deployments.models import Release
from deployments.services import request_deployment
from environments.balancers import BALANCERS
from environments.balancers.base import Member, Standing
from environments.models import Environment, Placement, Service
from tests.environments.balancers.running import WHY_NOT, Haproxy
from tests.environments.hosts.journal import starts

DEPLOYMENTS = 20
RATE = 500
HOSTS = 3
GOOD, UNWELL, ENDS = ("1.4.0", "1.5.0"), "1.6.0", "1.7.0"
IMAGE = "registry.test/pitchey-backend"
# Short, so that what is ours weighs: none of these times is counted as ours anyway.
SETTINGS = {
    "checks": 2, "failures": 2, "check_interval": 0.2, "poll_seconds": 0.1, "soak_seconds": 1.0, "stop_seconds": 5,
    "start_seconds": 10.0,
}  # fmt: skip
# Steps whose time is the service's and the load balancer's own: drain, start, health. All else is ours.
THEIRS = ("drain", "run", "check", "serving", "soak")
PROMISED = {
    "failed_requests": (0, 0), "hosts_touched_by_bad_image": (0, 1), "overhead_s_per_host": (0, 1.0),
    "deployments": (DEPLOYMENTS, DEPLOYMENTS), "ended_wrong": (0, 0),
}  # fmt: skip


def run() -> dict[str, Any]:
    """The figures of `bin/bench rolling`."""
    if words := why_not() or WHY_NOT:
        return {"not measured": words}
    folder = Path(tempfile.mkdtemp(prefix="cp-rolling-"))
    podman = Podman(folder / "podman", journal_mb=100)
    try:
        podman.start()
        if words := podman.try_it():
            return {"not measured": f"Podman cannot run containers here: {words}"}
        return _Scene(folder, podman).measure()
    finally:
        podman.delete()
        shutil.rmtree(folder, ignore_errors=True)


class _Scene:
    """Three hosts behind HAProxy. serving: the version that ought to run. ended_wrong: deployments that did."""

    def __init__(self, folder: Path, podman: Podman) -> None:
        self.podman = podman
        self.ports = {f"production-{number}": free_port() for number in range(1, HOSTS + 1)}
        self.proxy = Haproxy(folder, self.ports, every="200ms")
        self.environment = self._environment(folder / "state")
        self.releases = {version: self._release(version) for version in (*GOOD, UNWELL, ENDS)}
        person = Person.objects.create(username="bench", first_name="Bench")
        Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
        self.actor = Actor(person)
        self.serving = ""
        self.ended_wrong = 0

    def _environment(self, state: Path) -> Environment:
        for name in self.ports:
            (state / name).mkdir(parents=True)
        hosts = {
            f"server{number}": {"engine": self.podman.url, "instances": [name]}
            for number, name in enumerate(self.ports, start=1)
        }
        settings = {**SETTINGS, "hosts": hosts, "container": sample_container(state), "balancer": self.proxy.settings}
        environment = Environment.objects.create(
            slug="production", name="Production", driver="hosts", driver_settings=settings
        )
        instances = [{"name": name, "address": f"http://127.0.0.1:{port}"} for name, port in self.ports.items()]
        service = Service.objects.create(slug="pitchey-backend", name="Pitchey backend")
        Placement.objects.create(environment=environment, service=service, instances=instances)
        return environment

    def _release(self, version: str) -> Release:
        bad: dict[str, Any] = {UNWELL: {"health_status": 503}, ENDS: {"ends": 3}}.get(version, {})
        digest = self.podman.import_sample(IMAGE, version, **bad)
        service = Service.objects.get(slug="pitchey-backend")
        return Release.objects.create(
            service=service, version=version, image=f"{IMAGE}:{version}", digest=digest, ci="passed",
            created_by_name="bench",
        )  # fmt: skip

    def deploy(self, version: str) -> Operation:
        """From the request to the end."""
        release = self.releases[version]
        operation = request_deployment(self.actor, environment=self.environment, release=release, reason="bench")
        engine.run(operation.pk, "bench")
        operation.refresh_from_db()
        if operation.state == State.SUCCEEDED:
            self.serving = version
        print(f"{version}: {operation.state} {operation.outcome}", file=sys.stderr, flush=True)
        self.ended_wrong += operation.state != (State.SUCCEEDED if version in GOOD else State.FAILED)
        return operation

    def measure(self) -> dict[str, Any]:
        """All deployments, while people ask."""
        try:
            self.deploy(GOOD[0])
            if not wait_until(self._serve, 20):
                raise RuntimeError("the three hosts do not serve")
            load = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.rolling_load", str(self.proxy.port), str(RATE), "/version"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                assert load.stdout
                if load.stdout.readline() != "ready\n":
                    raise RuntimeError("nobody can ask")
                done = [self.deploy(self._next(number)) for number in range(1, DEPLOYMENTS + 1)]
                heard = json.loads(load.communicate(timeout=60)[0])
            finally:
                with suppress(ProcessLookupError):
                    load.kill()
            return self._figures(done, heard)
        finally:
            self.proxy.stop()

    def _next(self, number: int) -> str:
        """Every fourth is bad, one way and the other; the rest go back and forth."""
        if number % 4 == 0:
            return UNWELL if number % 8 else ENDS
        return GOOD[1] if self.serving == GOOD[0] else GOOD[0]

    def _serve(self) -> bool:
        members = [Member(name, "127.0.0.1", port) for name, port in self.ports.items()]
        haproxy = BALANCERS["haproxy"]
        return all(haproxy.look(self.proxy.settings, one).standing is Standing.SERVING for one in members)

    def _figures(self, done: list[Operation], heard: dict[str, Any]) -> dict[str, Any]:
        bad = {self.releases[version].digest for version in (UNWELL, ENDS)}
        touched: dict[str, set[str]] = defaultdict(set)
        for start in starts(self.podman):
            if start["digest"] in bad:
                touched[start["operation"]].add(start["instance"])
        good = [one for one in done if one.state == State.SUCCEEDED]
        ours = [_overhead(one) for one in good]
        parts: dict[str, float] = defaultdict(float)
        for one in good:
            for key, seconds in _by_step(one).items():
                parts[key] += seconds
        return {
            "failed_requests": heard["failed"],
            "failures": heard["failures"],
            "requests": heard["sent"],
            "requests_per_s": heard["per_second"],
            "p50_ms": heard["p50_ms"],
            "p99_ms": heard["p99_ms"],
            "hosts_touched_by_bad_image": max((len(hosts) for hosts in touched.values()), default=0),
            "bad_deployments": len(touched),
            "overhead_s_per_host": round(sum(ours) / len(ours) / HOSTS, 2),
            "overhead_s_per_host_max": round(max(ours) / HOSTS, 2),
            "ms_per_host_by_step": {key: round(value * 1000 / len(good) / HOSTS) for key, value in parts.items()},
            "deployments": len(done),
            "ended_wrong": self.ended_wrong,
            "seconds": heard["seconds"],
        }


def _seconds(step: Step) -> float:
    assert step.started_at and step.finished_at
    return (step.finished_at - step.started_at) / timedelta(seconds=1)


def _by_step(operation: Operation) -> dict[str, float]:
    """Seconds of all hosts together, by the step's name."""
    found: dict[str, float] = defaultdict(float)
    for step in operation.steps.filter(phase=Step.Phase.MAIN):
        found[step.key.rpartition("/")[2]] += _seconds(step)
    return found


def _overhead(operation: Operation) -> float:
    """Seconds from the first step's beginning to the end that are neither drain nor start nor health."""
    assert operation.started_at and operation.finished_at
    whole = (operation.finished_at - operation.started_at) / timedelta(seconds=1)
    return whole - sum(seconds for key, seconds in _by_step(operation).items() if key in THEIRS)
