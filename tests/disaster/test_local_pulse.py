"""The customers' own record is the judge: how many ordered where, what failed, and if acknowledged orders are there."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.disaster.demo import SCHEMA
from backups.disaster.pulse import account, acknowledged_orders, pulse
from controlplane.operations.errors import StepError
from tests.backups.databases import database, run, url_of

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
START = int((NOW - timedelta(minutes=10)).timestamp())


@pytest.fixture
def clients(data_dir: Path) -> Path:
    folder = data_dir / "clients"
    folder.mkdir()
    return folder


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def second(at: int, ok: dict[str, int], failed: dict[str, int] | None = None, words: str = "") -> dict[str, Any]:
    return {"at": at, "ok": ok, "failed": failed or {}, "words": words}


def test_without_customers_there_is_no_chart(data_dir: Path) -> None:
    assert pulse(NOW) is None


def test_the_chart_says_where_orders_went(clients: Path) -> None:
    before = [second(START + n, {"production": 5}) for n in range(300)]
    between = [second(START + n, {}, {"": 4, "production": 1}, "no answer") for n in range(300, 320)]
    after = [second(START + n, {"dr": 5}) for n in range(320, 600)]
    write(clients / "seconds.jsonl", [*before, *between, *after])
    drawn = pulse(NOW)
    assert drawn is not None
    assert [(one.site, one.orders) for one in drawn.series] == [("production", 1500), ("dr", 1400)]
    assert drawn.label == "1500 orders at production, 1400 orders at dr, 100 failed"
    assert (drawn.site, drawn.failed, drawn.longest_gap) == ("dr", 100, 20.0)
    assert drawn.top == pytest.approx(5.75)
    assert (drawn.since, drawn.until) == (NOW - timedelta(minutes=10), NOW)


def test_bars_stand_on_each_other_and_a_gap_stays_empty(clients: Path) -> None:
    write(clients / "seconds.jsonl", [second(START, {"dr": 1, "production": 1}, {"": 1}), second(START + 9, {"dr": 3})])
    drawn = pulse(NOW)
    assert drawn is not None
    production, dr = (one.path for one in drawn.series)
    assert production == "M0.0 96.0V70.5h6.0V96.0z"
    assert dr.startswith("M0.0 70.5V45.0h6.0V70.5z")
    assert drawn.failures == "M0.0 45.0V19.5h6.0V45.0z"
    assert dr.count("M") == 2  # nothing is drawn where nobody was there to order


def test_what_is_older_than_the_span_is_left_out_and_both_files_are_read(clients: Path) -> None:
    write(clients / "seconds.1.jsonl", [second(START - 1, {"production": 9}), second(START, {"production": 1})])
    write(clients / "seconds.jsonl", [second(START + 1, {"production": 1}), second(START + 600, {"production": 9})])
    drawn = pulse(NOW)
    assert drawn is not None
    assert [one.orders for one in drawn.series] == [2]


def test_a_torn_or_foreign_line_is_no_second(clients: Path) -> None:
    (clients / "seconds.jsonl").write_text('{"at": 1\n[]\n{"at": "x", "ok": {}, "failed": {}, "words": ""}\n')
    drawn = pulse(NOW)
    assert drawn is not None
    assert (drawn.series, drawn.failed, drawn.site) == ([], 0, "")


def test_acknowledged_orders_are_looked_for_in_the_database(clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [str(uuid.uuid4()) for _ in range(5)]
    at = datetime.now(UTC).timestamp()
    remembered = [{"id": one, "at": at, "site": "production", "customer": "customer-1"} for one in orders]
    write(clients / "orders.1.jsonl", remembered[:2])
    write(clients / "orders.jsonl", remembered[2:])
    with database(SCHEMA) as server:
        monkeypatch.setenv("ORDERS_URL", url_of(server))
        insert(server, [*orders[:4], str(uuid.uuid4())])
        found = account("env:ORDERS_URL")
        assert (found.acknowledged, found.found, found.lost, found.missing) == (5, 4, 1, [orders[4]])
        assert found.strangers == 1
        assert found.newest is not None
        insert(server, [orders[4]])
        assert account("env:ORDERS_URL").lost == 0
        run(server, "DROP TABLE orders")
        with pytest.raises(StepError, match="cannot be counted"):
            account("env:ORDERS_URL")


def insert(server: Any, orders: list[str]) -> None:
    values = ", ".join(f"('{one}', 'customer-1', 100, 'production')" for one in orders)
    run(server, f"INSERT INTO orders (id, customer, cents, site) VALUES {values}")


def test_only_orders_before_a_restore_point_can_be_in_it(clients: Path) -> None:
    write(clients / "orders.jsonl", [{"id": name, "at": START + n} for n, name in enumerate("abc")])
    assert acknowledged_orders(datetime.fromtimestamp(START + 1, UTC)) == {"a": START}
    assert list(acknowledged_orders()) == ["a", "b", "c"]


def test_nobody_ordered_yet(clients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with database(SCHEMA) as server:
        monkeypatch.setenv("ORDERS_URL", url_of(server))
        found = account("env:ORDERS_URL")
    assert (found.acknowledged, found.lost, found.newest) == (0, 0, None)
