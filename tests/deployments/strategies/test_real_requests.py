"""Canary and blue/green before a real HAProxy, with real requests: nobody sees a failure that was not the canary's."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import CanarySample, CanaryVerdict, StrategyTable
from deployments.services import request_deployment
from environments.balancers import BALANCERS
from environments.balancers.base import Member
from environments.drivers import DRIVERS
from environments.drivers.base import Running
from environments.models import Environment, Placement
from tests.environments.balancers.proxies import Handler, Proxy, proxy
from tests.estate import Estate, paper

__all__ = ["proxy"]
pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def requests(proxy: Proxy) -> Iterator[Counter[tuple[int, str]]]:
    """Four people ask without a pause; what they got, by status and server."""
    heard: Counter[tuple[int, str]] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            heard[proxy.get()] += 1

    people = [threading.Thread(target=ask) for _ in range(4)]
    for one in people:
        one.start()
    try:
        yield heard
    finally:
        over.set()
        for one in people:
            one.join(20)


@pytest.fixture
def live(proxy: Proxy, estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The two servers are production's instances; what runs there is on paper, and 1.6.0 answers with 500."""
    monkeypatch.setitem(DRIVERS, "local", paper)
    instances = [
        {"name": name, "address": f"http://127.0.0.1:{one.server_port}"} for name, one in proxy.servers.items()
    ]
    Environment.objects.filter(slug="production").update(
        driver="local", approvals_required=0, promoted_from="", driver_settings={"balancer": proxy.settings}
    )
    Placement.objects.filter(environment__slug="production").update(instances=instances)
    old = estate.releases["1.4.0"]
    paper.runs.update({name: Running(name, old.version, old.digest) for name in proxy.servers})
    estate.production.refresh_from_db()
    return proxy


class Answers(Handler):
    """With 503 to people while its health is good all the same: only its numbers tell."""

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(503 if self.server.fails and self.path != "/health" else code, message)


def fails_on(proxy: Proxy, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release answers every request with 503."""

    class Runs(dict[str, Running]):
        def __setitem__(self, instance: str, running: Running) -> None:
            super().__setitem__(instance, running)
            if instance in proxy.servers:
                proxy.servers[instance].fails = running.version == version

    for server in proxy.servers.values():
        server.RequestHandlerClass = Answers
    monkeypatch.setattr(paper, "runs", Runs(paper.runs))


def deploy(alice: Person, estate: Estate, version: str, strategy: str, **settings: Any) -> Operation:
    table = {"strategy": strategy, strategy: settings}
    StrategyTable.objects.update_or_create(environment=estate.production, service=None, defaults={"settings": table})
    release = estate.releases[version]
    operation = request_deployment(Actor(alice), environment=estate.production, release=release, reason="because")
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def weights(proxy: Proxy) -> dict[str, int | None]:
    haproxy = BALANCERS["haproxy"]
    return {
        name: haproxy.look(proxy.settings, Member(name, "127.0.0.1", one.server_port)).weight
        for name, one in proxy.servers.items()
    }


def test_a_good_canary(live: Proxy, alice: Person, estate: Estate) -> None:
    with requests(live) as heard:
        operation = deploy(alice, estate, "1.5.0", "canary", requests=60, share_percent=30, interval_seconds=0.1)
    assert operation.state == State.SUCCEEDED
    assert {status for status, _ in heard} == {200}
    assert weights(live) == {"one": 100, "two": 100}
    rows = CanarySample.objects.filter(operation=operation)
    ours, theirs = sum(row.canary_requests for row in rows), sum(row.baseline_requests for row in rows)
    assert ours >= 60
    assert ours / (ours + theirs) == pytest.approx(0.3, abs=0.1)


def test_a_bad_canary_is_found_by_what_haproxy_counted(
    live: Proxy, alice: Person, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_on(live, "1.5.0", monkeypatch)
    with requests(live) as heard:
        operation = deploy(alice, estate, "1.5.0", "canary", requests=5000, share_percent=20, interval_seconds=0.1)
    assert operation.state == State.FAILED
    assert CanaryVerdict.objects.get(operation=operation).outcome == "bad"
    assert {server for status, server in heard if status != 200} == {"one"}
    assert {one.version for one in paper.runs.values() if one.instance in ("one", "two")} == {"1.4.0"}
    assert weights(live) == {"one": 100, "two": 100}
    assert live.get()[0] == 200


def test_blue_green_switches_all_requests_and_back(live: Proxy, alice: Person, estate: Estate) -> None:
    colours = {"blue": ["one"], "green": ["two"], "soak_seconds": 1, "interval_seconds": 0.1}
    with requests(live) as heard:
        assert deploy(alice, estate, "1.5.0", "blue_green", **colours).state == State.SUCCEEDED
        assert {live.get() for _ in range(10)} == {(200, "two")}
        assert deploy(alice, estate, "1.4.0", "blue_green", **colours).state == State.SUCCEEDED
        assert {live.get() for _ in range(10)} == {(200, "one")}
    assert {status for status, _ in heard} == {200}
    assert weights(live) == {"one": 100, "two": 0}
