"""The demo of `bin/run`: a table of orders, the role that applications write them as, the name that leads to them."""

import logging
import os
import secrets
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
from django.conf import settings
from psycopg import sql

from backups.disaster.traffic.local import TTL_SECONDS, address_of, instances_of
from backups.disaster.traffic.names import changing, entry_of
from backups.models import RecoveryPlan
from backups.programs import Server
from controlplane.embedded.clients import NAME
from controlplane.embedded.files import read_json, write_private_json
from controlplane.operations.errors import StepError
from environments.models import Environment

logger = logging.getLogger(__name__)

# Which variable holds the URL of each site's database.
SITES = {"production": "DEMO_DATABASE_URL", "dr": "DEMO_DR_DATABASE_URL"}
ROLE = "pitchey_app"
SCHEMA = """
CREATE TABLE orders (
    id uuid PRIMARY KEY, customer text NOT NULL, cents integer NOT NULL, site text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX orders_at ON orders (at);
"""


class _Hand:
    """Changes the names as the start of everything does: nobody else is there yet."""

    def __init__(self, fence: int) -> None:
        self.fence = fence

    def check(self) -> None:
        """No lease that could be lost."""

    def wait(self, seconds: float) -> None:
        """While somebody else is at it."""
        time.sleep(seconds)

    def log(self, text: str) -> None:
        """Nobody watches."""


def prepare() -> None:
    """Bring it up; quick when it is there. Without databases of its own there is nothing to do."""
    here = set(Environment.objects.filter(slug__in=SITES).values_list("slug", flat=True))
    urls = {site: os.environ[variable] for site, variable in SITES.items() if os.environ.get(variable)}
    urls = {site: url for site, url in urls.items() if site in here}
    if "production" not in urls:
        return
    password = _password()
    for site, url in urls.items():
        # Each time: their ports may be others after a restart.
        _write_secret(site, "database-url", url)
        server = Server.of_url(url)
        address = f"{server.host}:{server.port}/{quote(server.database)}"
        _write_secret(site, "orders-url", f"postgres://{ROLE}:{password}@{address}")
    for url in urls.values():
        if _make_orders(Server.of_url(url), password):
            break
    _declare_name(list(urls))


def reference_of(site: str) -> str:
    """Where the URL is that a site's applications write orders by."""
    return f"file:{site}/orders-url"


def _password() -> str:
    """Of the applications' role; the same in both databases, as one is a copy of the other."""
    path = Path(settings.DATA_DIR) / "secrets" / "orders.json"
    kept = read_json(path)
    if not kept:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = {"password": secrets.token_hex(24)}
        write_private_json(path, kept)
    return str(kept["password"])


def _write_secret(site: str, name: str, value: str) -> None:
    path = Path(settings.DATA_DIR) / "secrets" / site / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{name}.draft")
    draft.touch(mode=0o600)
    draft.write_text(value)
    draft.rename(path)


def _make_orders(server: Server, password: str) -> bool:
    """Whether they are there now. A side that is fenced or follows the other one is not to be written to."""
    try:
        with server.connect() as connection:
            if connection.execute("SELECT to_regclass('public.orders')").fetchone() != (None,):
                return True
            if connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
                return False
            connection.execute(SCHEMA)
            role = sql.Identifier(ROLE)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {}").format(role))
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
            connection.execute(sql.SQL("GRANT SELECT, INSERT ON orders TO {}").format(role))
    except (StepError, psycopg.Error) as error:
        logger.warning("orders: %s cannot be prepared: %s", server, str(error).strip())
        return False
    return True


def _declare_name(sites: list[str]) -> None:
    """Both sites behind the name; which one it stands for is left as it is, wherever a recovery has brought it."""
    with changing(NAME, _Hand(entry_of(NAME).get("fence", 0))) as entry:
        entry["port"] = int(address_of(NAME).rpartition(":")[2])
        entry.setdefault("ttl", TTL_SECONDS)
        if "site" not in entry:
            entry["site"] = _serving()
        entry["sites"] = {
            site: {"instances": instances_of(site), "database": reference_of(site) if site in sites else ""}
            for site in SITES
        }


def _serving() -> str:
    plan = RecoveryPlan.objects.filter(traffic__name=NAME).select_related("primary", "standby").first()
    return plan.serving.slug if plan else "production"
