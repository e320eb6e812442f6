"""Hosts behind a real HAProxy, with people who ask all the while: what a strategy does is seen by what they got."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.models import Operation
from deployments.models import Release, StrategyTable
from deployments.services import request_deployment
from environments.balancers import BALANCERS
from environments.balancers.base import Counted, Member, Seen
from tests.environments.balancers.running import WHY_NOT, Haproxy
from tests.environments.hosts.park import Park

RATE = 240  # requests a second
HAPROXY: Any = BALANCERS["haproxy"]


@dataclass
class Street:
    """Some hosts and their door."""

    park: Park
    proxy: Haproxy
    asks: Person

    @property
    def members(self) -> dict[str, Member]:
        """The instances, as HAProxy knows them."""
        rows = self.park.placement.instances
        return {one["name"]: Member(one["name"], "127.0.0.1", urlsplit(one["address"]).port or 0) for one in rows}

    def seen(self) -> dict[str, Seen]:
        """How each stands."""
        return {name: HAPROXY.look(self.proxy.settings, member) for name, member in self.members.items()}

    def weights(self) -> list[int | None]:
        """In the order of the instances."""
        return [one.weight for one in self.seen().values()]

    def counted(self) -> dict[str, Counted]:
        """What HAProxy has counted since it was started."""
        found: dict[str, Counted] = HAPROXY.counted(self.proxy.settings, list(self.members.values()))
        return found

    def containers(self) -> list[str]:
        """Their ids, in the order of the instances."""
        found = [self.park.container(number) for number in range(1, len(self.members) + 1)]
        return [one.id if one else "" for one in found]

    def configure(self, strategy: str, **settings: Any) -> None:
        """What the configuration says of strategies there."""
        table = {"strategy": strategy, "also": ["rolling"], strategy: settings}
        environment = self.park.placement.environment
        StrategyTable.objects.update_or_create(environment=environment, service=None, defaults={"settings": table})

    def ask(self, version: str, **values: Any) -> Operation:
        """Ask for a deployment; nobody has to approve it."""
        software, service = self.park.images.release(version), self.park.placement.service
        release, _ = Release.objects.get_or_create(
            service=service, version=version,
            defaults={"image": software.image, "digest": software.digest, "ci": "passed"},
        )  # fmt: skip
        environment = self.park.placement.environment
        return request_deployment(
            Actor(self.asks), environment=environment, release=release, reason="because", **values
        )

    def deploy(self, version: str, **values: Any) -> Operation:
        """Ask for it, and carry it out to its end."""
        return self.run(self.ask(version, **values))

    def run(self, operation: Operation, worker: str = "w1") -> Operation:
        """Carry it out to its end."""
        engine.run(operation.pk, worker)
        operation.refresh_from_db()
        return operation


@dataclass
class Heard:
    """What the people got, once they have stopped: requests that were sent, and how many failed in which ways."""

    sent: int = 0
    failed: int = 0
    ways: frozenset[str] = frozenset()


@contextmanager
def requests(street: Street, rate: int = RATE) -> Iterator[Heard]:
    """People ask by the door from a process of their own, each request once."""
    heard = Heard()
    command = [sys.executable, "-m", "tests.benchmarks.rolling_load", str(street.proxy.port), str(rate), "/version"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        try:
            assert load.stdout is not None and load.stdout.readline() == "ready\n"
            yield heard
            told = json.loads(load.communicate(timeout=60)[0])
            heard.sent, heard.failed = told["sent"], told["failed"]
            heard.ways = frozenset(words.partition(" ")[2] for words in told["failures"])
        finally:
            load.kill()


Make = Callable[..., Street]


@pytest.fixture
def street(park: Callable[..., Park], alice: Person) -> Iterator[Make]:
    """Makes so many hosts that run 1.4.0 behind HAProxy, which finds them well."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    folder, doors = Path(tempfile.mkdtemp(prefix="cp-ha-")), []

    def make(count: int) -> Street:
        hosts = park(count)
        made = Street(hosts, None, alice)  # type: ignore[arg-type]
        made.proxy = Haproxy(folder, {name: one.port for name, one in made.members.items()})
        doors.append(made.proxy)
        hosts.settings(balancer=made.proxy.settings)
        assert hosts.deploy("1.4.0") is None
        return made

    yield make
    for one in doors:
        one.stop()
    shutil.rmtree(folder)
