"""Production as a canary needs it: a driver of paper behind a load balancer of paper, and settings that are quick."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine
from controlplane.operations.models import Effect, Operation
from deployments.models import StrategyTable
from deployments.services import request_deployment
from environments.balancers import BALANCERS
from environments.drivers import DRIVERS
from environments.models import Environment, Placement
from tests.deployments.strategies.world import PaperBalancer
from tests.estate import Estate, paper

INSTANCES = [{"name": f"production-{number}", "address": f"http://10.0.0.{number}:8000"} for number in (1, 2, 3)]
BALANCER = {"kind": "haproxy", "socket": "/run/haproxy.sock", "backend": "api"}
QUICK: dict[str, Any] = {"interval_seconds": 0.1, "requests": 500, "deadline_seconds": 30}


@dataclass
class Production:
    """What a test moves."""

    estate: Estate
    balancer: PaperBalancer
    asks: Person

    def configure(self, strategy: str = "canary", **settings: Any) -> None:
        """Write down a strategy for production."""
        table = {"strategy": strategy, "also": ["rolling"], strategy: settings}
        StrategyTable.objects.update_or_create(
            environment=self.estate.production, service=None, defaults={"settings": table}
        )  # fmt: skip

    def ask(self, version: str = "1.5.0", **values: Any) -> Operation:
        """Ask for a deployment."""
        release = self.estate.releases[version]
        return request_deployment(
            Actor(self.asks), environment=self.estate.production, release=release, reason="because", **values
        )

    def deploy(self, version: str = "1.5.0", **values: Any) -> Operation:
        """Ask for it, and run it to its end."""
        operation = self.ask(version, **values)
        engine.run(operation.pk, "w1")
        operation.refresh_from_db()
        return operation

    def versions(self) -> list[str]:
        """What runs, instance by instance."""
        return [paper.runs[one["name"]].version for one in INSTANCES]

    def effects(self, operation: Operation) -> list[tuple[str, str, dict[str, Any]]]:
        """What its steps say they did."""
        return list(Effect.objects.filter(operation=operation).values_list("what", "subject", "facts"))


@pytest.fixture
def production(estate: Estate, alice: Person, monkeypatch: pytest.MonkeyPatch) -> Production:
    """Three instances with 1.4.0; no approvals, so that one call runs it; a canary by default."""
    balancer = PaperBalancer()
    monkeypatch.setitem(DRIVERS, "local", paper)
    monkeypatch.setitem(BALANCERS, "haproxy", balancer)
    Environment.objects.filter(slug="production").update(
        driver="local", approvals_required=0, driver_settings={"balancer": BALANCER}
    )
    Placement.objects.filter(environment__slug="production").update(instances=INSTANCES)
    estate.production.refresh_from_db()
    made = Production(estate, balancer, alice)
    made.configure(**QUICK)
    return made


@pytest.fixture
def traffic(production: Production) -> Callable[..., None]:
    """Between two looks at the counters each instance gets requests, of which so many fail on the new release."""

    def flow(bad: int = 0, requests: int = 100, slow: float = 20.0) -> None:
        def came() -> None:
            for one in INSTANCES:
                new = paper.runs[one["name"]].version != "1.4.0"
                production.balancer.got(one["name"], requests, bad if new else 0, slow if new else 20.0)

        production.balancer.traffic = came

    flow()
    return flow
