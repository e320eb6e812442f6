"""Fleets on the driver `hosts`: containers of one real Podman, a real HAProxy before each fleet, and its bad luck."""

import os
import signal
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlplane.embedded.podman import Podman, sample_container, why_not
from controlplane.operations.models import Operation
from deployments.models import Release
from environments.balancers import BALANCERS
from environments.balancers.base import Member, Standing
from environments.drivers.ports import address_for
from environments.models import Environment, Placement, Service
from tests.chaos.faults import FAULTS, Fault, thaw_later
from tests.chaos.fleets import INSTANCES, Fleet
from tests.environments.balancers.running import WHY_NOT, Haproxy
from tests.environments.hosts.journal import starts

if TYPE_CHECKING:
    from tests.chaos.rounds import Chaos

IMAGE = "registry.test/sample"
BAD = {"3.0.0": 503}
FAST = {
    "checks": 2, "failures": 2, "check_interval": 0.1, "poll_seconds": 0.1, "soak_seconds": 0.2, "stop_seconds": 5,
    "start_seconds": 5.0, "drain_seconds": 60.0,
}  # fmt: skip
# Less than a step's attempts together wait, so that the balancer is back before the last of them.
AWAY_SECONDS = 2.0
SILENT_SECONDS = 4.0


def _proxy_of(chaos: "Chaos", operation: Operation) -> Haproxy:
    proxy = next(getattr(one.fleet, "proxy") for one in chaos.going if one.operation.pk == operation.pk)  # noqa: B009
    assert isinstance(proxy, Haproxy)
    return proxy


def _hide_socket(chaos: "Chaos", operation: Operation) -> None:
    """Nobody can speak to it for a while; it sends on as it was told before."""
    where = _proxy_of(chaos, operation).socket
    away = where.with_suffix(".away")
    where.rename(away)
    threading.Timer(AWAY_SECONDS, partial(away.rename, where)).start()


def _hold_still(chaos: "Chaos", operation: Operation) -> None:
    """It takes calls and does not answer for a while."""
    pid = _proxy_of(chaos, operation).process.pid
    os.kill(pid, signal.SIGSTOP)
    thaw_later(pid, SILENT_SECONDS)


def _podman_of(chaos: "Chaos") -> Podman:
    podman = next(getattr(one.fleet, "podman") for one in chaos.going)  # noqa: B009
    assert isinstance(podman, Podman)
    return podman


def _hold_engine_still(chaos: "Chaos", operation: Operation) -> None:
    """The hosts' engine takes calls and does not answer for a while."""
    pid = _podman_of(chaos).pid
    os.kill(pid, signal.SIGSTOP)
    thaw_later(pid, SILENT_SECONDS)


HOSTS_FAULTS = [
    *FAULTS,
    *[Fault("hide the balancer's socket", False, _hide_socket)] * 3,
    *[Fault("hold the balancer still", False, _hold_still)] * 3,
    *[Fault("hold the hosts' engine still", False, _hold_engine_still)] * 3,
]


@dataclass
class HostsFleet(Fleet):
    """Two containers behind a HAProxy of their own."""

    podman: Podman | None = None
    proxy: Haproxy | None = None

    def running(self) -> set[str]:
        """The versions that run, and what of them the load balancer sends nothing to."""
        found = super().running()
        assert self.proxy
        for name, port in ports_of(self.placement).items():
            seen = BALANCERS["haproxy"].look(self.proxy.settings, Member(name, "127.0.0.1", port))
            if seen.standing is not Standing.SERVING:
                found.add(f"{name}: {seen.standing} ({seen.words})")
        return found

    def effects(self) -> list[dict[str, Any]]:
        """Every start, as Podman wrote it down."""
        assert self.podman
        return [one for one in starts(self.podman) if one["environment"] == self.environment.slug]

    def stop(self) -> None:
        """Its HAProxy; the containers go with Podman."""
        assert self.proxy
        self.proxy.process.send_signal(signal.SIGCONT)
        self.proxy.stop()


class Hosts:
    """All fleets on hosts, and the engine below them. Raises RuntimeError where it cannot be had."""

    faults = HOSTS_FAULTS

    def __init__(self, folder: Path) -> None:
        if words := why_not() or WHY_NOT:
            raise RuntimeError(words)
        self.folder = folder
        self.podman = Podman(folder / "podman", journal_mb=100)  # the judge reads all of it at the end
        self.podman.start()
        if words := self.podman.try_it():
            self.podman.delete()
            raise RuntimeError(f"Podman cannot run containers here: {words}")

    def make(self, count: int) -> list[Fleet]:
        """The environments, a service, two good releases and one whose /health answers 503."""
        service = Service.objects.create(slug="sample", name="Sample")
        for version in ("1.0.0", "2.0.0", *BAD):
            digest = self.podman.import_sample(IMAGE, version, health_status=BAD.get(version, 200))
            Release.objects.create(
                service=service, version=version, image=f"{IMAGE}:{version}", digest=digest, ci="passed",
                created_by_name="chaos",
            )  # fmt: skip
        return [self._fleet(f"fleet-{number:02}", service) for number in range(count)]

    def _fleet(self, slug: str, service: Service) -> Fleet:
        names = [f"{slug}-{number}" for number in range(1, INSTANCES + 1)]
        folder = self.folder / slug
        for name in names:
            (folder / "state" / name).mkdir(parents=True)
        instances = [{"name": name, "address": address_for(slug, name)} for name in names]
        environment = Environment.objects.create(slug=slug, name=slug, driver="hosts")
        placement = Placement.objects.create(environment=environment, service=service, instances=instances)
        proxy = Haproxy(folder, ports_of(placement))
        environment.driver_settings = {
            **FAST, "hosts": {"server": {"engine": self.podman.url}}, "container": sample_container(folder / "state"),
            "balancer": proxy.settings,
        }  # fmt: skip
        environment.save()
        return HostsFleet(environment, placement, folder, podman=self.podman, proxy=proxy)

    def stop(self) -> None:
        """All containers, and Podman."""
        self.podman.delete()


def ports_of(placement: Placement) -> dict[str, int]:
    """By instance."""
    return {one["name"]: int(one["address"].rpartition(":")[2]) for one in placement.instances}
