"""Many small fleets of the sample service, and the judge that reads what they wrote down themselves."""

import json
import os
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.models import Release
from environments.drivers import DRIVERS
from environments.drivers.ports import address_for
from environments.models import Environment, Placement, Service
from environments.targets import target_of
from tests.chaos.faults import FAULTS

INSTANCES = 2
FAST = {"checks": 2, "check_interval": 0.1, "drain_seconds": 0.1, "broken_versions": {"3.0.0": 503}}


@dataclass
class Fleet:
    """One environment with two instances. version: what should run once all is quiet ("" at first)."""

    environment: Environment
    placement: Placement
    folder: Path
    version: str = ""

    def running(self) -> set[str]:
        """The versions that truly run, asked of the processes."""
        driver = DRIVERS[self.environment.driver]
        return {one.version for one in driver.running(target_of(self.placement))}

    def effects(self) -> list[dict[str, Any]]:
        """Every start and stop, instance by instance, as the services wrote them."""
        logs = sorted(self.folder.glob("*/effects.log"))
        return [json.loads(line) | {"instance": log.parent.name} for log in logs for line in log.open()]

    def stop(self) -> None:
        """End its processes."""
        for state in self.folder.glob("*/instance.json"):
            with suppress(ProcessLookupError, ValueError, KeyError):
                os.kill(json.loads(state.read_text())["pid"], signal.SIGTERM)


class Local:
    """All fleets on the driver `local`."""

    faults = FAULTS

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, count: int) -> list[Fleet]:
        """The environments, a service and its releases."""
        return make(count, self.folder)

    def stop(self) -> None:
        """Nothing but the fleets themselves."""


def make(count: int, data: Path) -> list[Fleet]:
    """The environments, a service, two good releases and one whose /health answers 503."""
    service = Service.objects.create(slug="sample", name="Sample")
    for number, version in enumerate(("1.0.0", "2.0.0", "3.0.0"), start=1):
        digest = f"sha256:{number:064x}"
        Release.objects.create(
            service=service, version=version, image="sample", digest=digest, ci="passed", created_by_name="chaos"
        )
    return [_fleet(f"fleet-{number:02}", service, data) for number in range(count)]


def _fleet(slug: str, service: Service, data: Path) -> Fleet:
    environment = Environment.objects.create(slug=slug, name=slug, driver="local", driver_settings=FAST)
    names = [f"{slug}-{n}" for n in range(1, INSTANCES + 1)]
    # Ports that are written down: one that is only free now may be given to two, and is again while an instance stands.
    instances = [{"name": name, "address": address_for(slug, name)} for name in names]
    placement = Placement.objects.create(environment=environment, service=service, instances=instances)
    return Fleet(environment, placement, data / "instances" / slug)


def repeated(effects: list[dict[str, Any]]) -> int:
    """Starts of one release on one instance beyond the first, within one operation."""
    starts = Counter((e["operation"], e["instance"], e["digest"]) for e in effects if e["event"] == "start")
    return sum(count - 1 for count in starts.values())


def stale(effects: list[dict[str, Any]]) -> int:
    """Starts under a smaller fence than an earlier start of the same instance."""
    found, highest = 0, Counter[str]()
    for effect in effects:
        if effect["event"] == "start" and effect["fence"] is not None:
            found += int(effect["fence"]) < highest[effect["instance"]]
            highest[effect["instance"]] = max(highest[effect["instance"]], int(effect["fence"]))
    return found
