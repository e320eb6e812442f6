"""The demo's customers: an order counts once it is committed at the site that the name leads to, and else it failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backups.disaster.demo import SCHEMA
from backups.programs import Server
from controlplane.embedded.clients import Customer, Failed, Record, ask
from controlplane.embedded.place import CHECKOUT
from controlplane.embedded.processes import free_port, wait_until
from tests.backups.databases import database, run, url_of

NAME = "api.pitchey.com"


class Front(ThreadingHTTPServer):
    """Stands for the name switch: answers for a site, with a status."""

    daemon_threads = True
    site, status = "production", 200
    before: Callable[[], None] = staticmethod(lambda: None)

    def handle_error(self, request: object, client_address: object) -> None:
        """Customers that are killed hang up in the middle."""


class Answers(BaseHTTPRequestHandler):
    server: Front

    def do_GET(self) -> None:
        self.server.before()
        self.send_response(self.server.status)
        self.send_header("X-Site", self.server.site)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the library)
        pass


class Shop:
    """A name, two databases, and what customers remember."""

    def __init__(self, folder: Path, front: Front, sites: dict[str, Server]) -> None:
        self.folder = folder
        self.front = front
        self.sites = sites
        self.customers: list[Customer] = []
        for site, server in sites.items():
            path = folder / "secrets" / site / "orders-url"
            path.parent.mkdir(parents=True)
            path.write_text(url_of(server))
        (folder / "clients").mkdir()
        entry = {
            "port": front.server_address[1],
            "sites": {site: {"database": f"file:{site}/orders-url"} for site in sites},
        }
        (folder / "names.json").write_text(json.dumps({NAME: entry}))

    def customer(self) -> Customer:
        self.customers.append(Customer(self.folder, NAME, 1, Record(self.folder / "clients")))
        return self.customers[-1]

    def remembered(self) -> list[dict[str, Any]]:
        return lines(self.folder / "clients" / "orders.jsonl")

    def rows(self, site: str) -> set[str]:
        return {order for (order,) in run(self.sites[site], "SELECT id::text FROM orders")}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    front = Front(("127.0.0.1", 0), Answers)
    threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    with database(SCHEMA) as production, database(SCHEMA) as dr:
        made = Shop(tmp_path, front, {"production": production, "dr": dr})
        yield made
        for customer in made.customers:
            customer.leave()
    front.shutdown()
    front.server_close()


def test_an_order_is_committed_before_it_is_remembered(shop: Shop) -> None:
    customer = shop.customer()
    customer.order()
    assert [one["site"] for one in shop.remembered()] == ["production"]
    assert {one["id"] for one in shop.remembered()} == shop.rows("production")
    assert shop.rows("dr") == set()


def test_orders_go_to_the_database_of_the_site_that_answered(shop: Shop) -> None:
    customer = shop.customer()
    customer.order()
    shop.front.site = "dr"
    customer.order()
    assert [one["site"] for one in shop.remembered()] == ["production", "dr"]
    assert shop.rows("dr") == {shop.remembered()[1]["id"]}


def test_without_a_good_answer_nothing_is_written(shop: Shop) -> None:
    shop.front.status = 503
    with pytest.raises(Failed, match="production answered 503"):
        shop.customer().order()
    assert shop.remembered() == []
    assert shop.rows("production") == set()


def test_nobody_who_answers_is_a_failed_order_at_no_site() -> None:
    with pytest.raises(Failed, match="no answer") as failure:
        ask(free_port())
    assert failure.value.site == ""
    with pytest.raises(Failed, match="the name has no address"):
        ask(0)


def test_a_database_that_takes_no_order_is_a_failed_order(shop: Shop) -> None:
    customer = shop.customer()
    customer.order()
    run(shop.sites["production"], "ALTER TABLE orders RENAME TO gone")
    with pytest.raises(Failed, match="the database of production") as failure:
        customer.order()
    assert failure.value.site == "production"
    run(shop.sites["production"], "ALTER TABLE gone RENAME TO orders")
    customer.order()
    assert len(shop.remembered()) == 2


def test_a_site_whose_database_nobody_names_takes_no_order(shop: Shop) -> None:
    shop.front.site = "elsewhere"
    with pytest.raises(Failed, match="nobody says which one it is"):
        shop.customer().order()


def test_an_order_that_hangs_is_cut_and_not_acknowledged(shop: Shop) -> None:
    customer = shop.customer()
    customer.order()
    with psycopg.connect(url_of(shop.sites["production"])) as holder:
        holder.execute("LOCK TABLE orders")
        caught: list[str] = []

        def order() -> None:
            with pytest.raises(Failed) as failure:
                customer.order()
            caught.append(str(failure.value))

        waiting = threading.Thread(target=order)
        waiting.start()
        assert wait_until(lambda: is_waiting(holder), 40)
        customer.cut()
        waiting.join(10)
    assert caught and caught[0].startswith("the database of production")
    assert len(shop.remembered()) == 1


def is_waiting(holder: psycopg.Connection[Any]) -> bool:
    row = holder.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'customers' AND wait_event_type = 'Lock'"
        " AND datname = current_database()"
    ).fetchone()
    return row is not None and row[0] > 0


def test_the_record_of_a_second_says_where_orders_went(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.acknowledged("a", "production", "customer-1")
    record.acknowledged("b", "dr", "customer-1")
    record.failed("", "no answer")
    record.end_second(100)
    record.end_second(101)
    assert lines(tmp_path / "seconds.jsonl") == [
        {"at": 100, "ok": {"production": 1, "dr": 1}, "failed": {"": 1}, "words": "no answer"},
        {"at": 101, "ok": {}, "failed": {}, "words": ""},
    ]


def test_the_files_do_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.embedded.clients.FILE_BYTES", 500)
    record = Record(tmp_path)
    for number in range(40):
        record.acknowledged(str(number), "production", "customer-1")
    kept = [one["id"] for name in ("orders.1.jsonl", "orders.jsonl") for one in lines(tmp_path / name)]
    assert kept == [str(number) for number in range(40 - len(kept), 40)]
    assert 0 < len(kept) < 40
    assert sorted(os.listdir(tmp_path)) == ["orders.1.jsonl", "orders.jsonl"]


def test_the_program_orders_until_it_is_told_to_end(shop: Shop) -> None:
    process = start(shop)
    try:
        assert wait_until(lambda: len(shop.remembered()) >= 5, 40)
        assert wait_until(lambda: len(lines(shop.folder / "clients" / "seconds.jsonl")) > 1, 40)
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    remembered = {one["id"] for one in shop.remembered()}
    assert remembered <= shop.rows("production")
    assert {one["customer"] for one in shop.remembered()} == {f"customer-{n}" for n in range(1, 6)}


def test_the_shop_opens_when_somebody_answers_for_the_first_time(shop: Shop) -> None:
    shop.front.status = 503
    asked = threading.Semaphore(0)
    shop.front.before = asked.release
    process = start(shop)
    try:
        for _ in range(3):
            assert asked.acquire(timeout=20)
        assert lines(shop.folder / "clients" / "seconds.jsonl") == []
        shop.front.status = 200
        assert wait_until(lambda: bool(shop.remembered()), 40)
    finally:
        process.kill()
        process.wait()


def test_a_program_that_is_killed_at_any_moment_remembers_nothing_that_is_not_there(shop: Shop) -> None:
    for _ in range(3):
        known = len(shop.remembered())
        process = start(shop)
        assert wait_until(lambda known=known: len(shop.remembered()) > known + 1, 20)  # type: ignore[misc]
        process.kill()
        process.wait()
    assert {one["id"] for one in shop.remembered()} <= shop.rows("production")


def start(shop: Shop) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "controlplane.embedded.clients", "--folder", str(shop.folder)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})


def test_an_order_that_takes_too_long_is_cut_by_who_keeps_the_books(shop: Shop) -> None:
    """As long as the table is locked nothing is acknowledged, and each waiting customer is heard of."""
    with psycopg.connect(url_of(shop.sites["production"])) as holder:
        process = start(shop)
        try:
            assert wait_until(lambda: bool(shop.remembered()), 40)
            holder.execute("LOCK TABLE orders")
            before = time.time()
            assert wait_until(lambda: any(one["failed"] for one in seconds(shop, before)), 40)
            assert not any(one["ok"] for one in seconds(shop, before + 2))
            holder.rollback()
            assert wait_until(lambda: any(one["ok"] for one in seconds(shop, before + 2)), 40)
        finally:
            process.kill()
            process.wait()


def seconds(shop: Shop, since: float) -> list[dict[str, Any]]:
    return [one for one in lines(shop.folder / "clients" / "seconds.jsonl") if one["at"] > since]
