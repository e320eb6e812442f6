"""The demo's part in disaster recovery: orders, a role that can do no more than order, and a name that stays moved."""

import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from backups.disaster import demo
from backups.disaster.traffic.local import address_of
from backups.disaster.traffic.names import changing, entry_of
from backups.programs import Server
from environments.models import Environment, Placement, Service
from environments.secrets import resolve
from tests.backups.databases import database, run, url_of
from tests.environments.fleet import Worker


@pytest.fixture
def production(data_dir: Path, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Both environments, and a database for production."""
    service = Service.objects.create(slug="pitchey-backend", name="Pitchey backend")
    for slug in ("production", "dr"):
        environment = Environment.objects.create(slug=slug, name=slug, driver="local")
        instances = [{"name": f"{slug}-1", "address": f"http://127.0.0.1:1{len(slug)}"}]
        Placement.objects.create(environment=environment, service=service, instances=instances)
    role = f"app_{secrets.token_hex(4)}"
    monkeypatch.setattr(demo, "ROLE", role)
    monkeypatch.delenv("DEMO_DR_DATABASE_URL", raising=False)
    with database() as server:
        monkeypatch.setenv("DEMO_DATABASE_URL", url_of(server))
        yield server
    with closing(server.named("postgres").connect(autocommit=True)) as admin:
        admin.execute(f"DROP ROLE IF EXISTS {role}")


def app() -> Server:
    """As the applications connect."""
    return Server.of_url(resolve(demo.reference_of("production")))


ORDER = "INSERT INTO orders (id, customer, cents, site) VALUES (gen_random_uuid(), 'c', 1, 'production')"


def test_the_role_can_order_and_look_and_no_more(production: Server) -> None:
    demo.prepare()
    run(app(), ORDER)
    assert run(app(), "SELECT count(*) FROM orders") == [(1,)]
    for forbidden in ("DELETE FROM orders", "UPDATE orders SET cents = 0", "CREATE TABLE mine (id int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(app(), forbidden)


def test_a_second_start_changes_nothing_that_is_there(production: Server, data_dir: Path) -> None:
    demo.prepare()
    run(app(), ORDER)
    names = (data_dir / "names.json").read_text()
    demo.prepare()
    assert run(app(), "SELECT count(*) FROM orders") == [(1,)]
    assert (data_dir / "names.json").read_text() == names


def test_the_name_leads_to_production_with_the_other_side_known(production: Server) -> None:
    demo.prepare()
    entry = entry_of("api.pitchey.com")
    assert entry["site"] == "production"
    assert address_of("api.pitchey.com") == f"http://127.0.0.1:{entry['port']}"
    assert entry["sites"] == {
        "production": {"instances": ["http://127.0.0.1:110"], "database": "file:production/orders-url"},
        "dr": {"instances": ["http://127.0.0.1:12"], "database": ""},
    }


def test_a_restart_leaves_people_where_a_recovery_brought_them(production: Server) -> None:
    demo.prepare()
    with changing("api.pitchey.com", Worker(fence=7)) as entry:
        entry["site"] = "dr"
    demo.prepare()
    assert (entry_of("api.pitchey.com")["site"], entry_of("api.pitchey.com")["fence"]) == ("dr", 7)


def test_the_other_side_gets_a_url_of_its_own_with_the_same_role(
    production: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMO_DR_DATABASE_URL", "postgres://controlplane:secret@127.0.0.1:1/pitchey_prod")
    demo.prepare()
    there = Server.of_url(resolve(demo.reference_of("dr")))
    assert (there.port, there.user, there.password) == (1, app().user, app().password)
    assert Server.of_url(resolve("file:dr/database-url")).user == "controlplane"
    assert entry_of("api.pitchey.com")["sites"]["dr"]["database"] == "file:dr/orders-url"


def test_a_database_that_does_not_answer_keeps_nobody_from_starting(
    production: Server, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.setenv("DEMO_DATABASE_URL", "postgres://controlplane:secret@127.0.0.1:1/pitchey_prod")
    demo.prepare()
    assert json.loads((data_dir / "names.json").read_text())["api.pitchey.com"]["site"] == "production"


def test_without_a_database_of_its_own_there_is_nothing_to_do(
    production: Server, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    monkeypatch.delenv("DEMO_DATABASE_URL")
    demo.prepare()
    assert not (data_dir / "names.json").exists()
