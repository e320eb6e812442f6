"""Pairs of sites: a fleet and a database each, the second database following the first, with wires that can be cut."""

import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg

from backups.disaster.databases.postgres_standby import request_file
from backups.disaster.demo import SCHEMA
from backups.disaster.services import set_clock
from backups.disaster.traffic.local import address_of, instances_of
from backups.disaster.traffic.names import changing
from backups.models import RecoveryPlan
from controlplane.embedded.errors import StackError
from controlplane.embedded.follower import Follower
from controlplane.embedded.place import Place
from controlplane.embedded.postgres import Postgres
from deployments.demo import Hand, start_missing
from environments.drivers.ports import address_for
from environments.models import Environment, Placement, Service
from tests.chaos.failover.wires import Wire

DATABASE, ROLE = "shop", "shop_app"
# What is acknowledged is written: servers are killed here, though no machine loses its power.
MORE = {
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_senders": "6",
    "max_connections": "40",
    "shared_buffers": "16MB",
}
FAST = {"checks": 1, "check_interval": 0.1, "drain_seconds": 0.0}
DIGEST = "sha256:" + "a" * 64


@dataclass
class Pair:
    """One plan. home, away: the databases; to_home, to_away: the control plane's wires; between: the replication's."""

    plan: RecoveryPlan
    home: Postgres
    away: Follower
    to_home: Wire
    to_away: Wire
    between: Wire

    @property
    def name(self) -> str:
        """The public name."""
        return f"{self.plan.slug}.test"

    def server(self, site: str) -> Postgres:
        """A site's database."""
        return self.home if site == self.plan.primary.slug else self.away

    def url(self, site: str) -> str:
        """How the site's applications reach their database."""
        return f"postgres://{ROLE}:app@127.0.0.1:{self.server(site).port}/{DATABASE}"

    def admin(self, site: str) -> "psycopg.Connection[Any]":
        """Our own connection to a site's database, by no wire that is ever cut."""
        return psycopg.connect(self.server(site).url_of(DATABASE), autocommit=True, connect_timeout=5)

    def mend(self) -> None:
        """All wires are whole, both servers run."""
        for wire in (self.to_home, self.to_away, self.between):
            wire.mend()
        for server in (self.home, self.away):
            if server.ended():
                with suppress(StackError):  # what it copies is away for a moment
                    server.start()

    def tend(self) -> None:
        """Make the standby anew when an operation asked for it, as the supervisor of the demo does."""
        path = request_file(self.plan.standby.slug)
        if path.exists():
            with suppress(StackError):  # what it copies is away for a moment
                if not self.away.follows:
                    self.away.renew()
                path.unlink(missing_ok=True)

    def kill(self, server: Postgres) -> None:
        """As if its power had gone."""
        server.stop(signal.SIGKILL)

    def stop(self) -> None:
        for wire in (self.to_home, self.to_away, self.between):
            wire.close()
        self.away.stop()
        self.home.stop()


def make(count: int, place: Place, data: Path) -> list[Pair]:
    """The pairs, each with its plan; their first sites serve."""
    service = Service.objects.create(slug="shop", name="Shop")
    return [_pair(number, place, data, service) for number in range(count)]


def _pair(number: int, place: Place, data: Path, service: Service) -> Pair:
    sites = [_site(f"{side}-{number}", service) for side in ("home", "away")]
    home = Postgres(place, password="chaos", port=None, log=data / "logs" / f"home-{number}.log", durable=False,
                    name=f"home-{number}", more=MORE)  # fmt: skip
    home.start()
    _fill(home)
    between = Wire(home.port or 0)
    # It follows by the wire, so the wire's port is all of its leader that it knows.
    leader: Any = SimpleNamespace(port=between.port, password=home.password)
    away = Follower(place, leader, port=None, log=data / "logs" / f"away-{number}.log", name=f"away-{number}",
                    durable=False, more=MORE)  # fmt: skip
    away.start()
    wires = Wire(home.port or 0), Wire(away.port or 0)
    secrets = data / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    for site, wire, server in zip(sites, wires, (home, away), strict=True):
        (secrets / f"{site.slug}-admin").write_text(
            server.url_of(DATABASE).replace(f":{server.port}/", f":{wire.port}/")
        )
    plan = RecoveryPlan.objects.create(
        slug=f"pair-{number}", name=f"Pair {number}", primary=sites[0], standby=sites[1], services={"shop": 1},
        approvals_required=2, drill_schedule="",
        database={"kind": "postgres", "roles": [ROLE], "newest": "SELECT coalesce(max(at), 'epoch') FROM orders",
                  "primary": {"database": f"file:{sites[0].slug}-admin"},
                  "standby": {"database": f"file:{sites[1].slug}-admin", "rebuild": "embedded"}},
        traffic={"kind": "local", "name": f"pair-{number}.test", "ttl": 0.2},
    )  # fmt: skip
    set_clock(plan)
    pair = Pair(plan, home, away, *wires, between)
    with changing(pair.name, Hand()) as entry:
        entry["port"] = int(address_of(pair.name).rpartition(":")[2])
        entry["ttl"], entry["site"] = 0.2, sites[0].slug
        entry["sites"] = {one.slug: {"instances": instances_of(one.slug), "database": ""} for one in sites}
    return pair


def _site(slug: str, service: Service) -> Environment:
    environment = Environment.objects.create(slug=slug, name=slug, driver="local", driver_settings=FAST)
    instances = [{"name": f"{slug}-1", "address": address_for(slug, f"{slug}-1")}]
    placement = Placement.objects.create(environment=environment, service=service, instances=instances)
    if slug.startswith("home"):
        Placement.objects.filter(pk=placement.pk).update(version="1.0.0", digest=DIGEST)
        placement.refresh_from_db()
        start_missing(placement)
    return environment


def _fill(server: Postgres) -> None:
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'app'".encode())
        connection.execute(f"CREATE DATABASE {DATABASE}".encode())
    with psycopg.connect(server.url_of(DATABASE), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute(f"GRANT SELECT, INSERT ON orders TO {ROLE}".encode())
