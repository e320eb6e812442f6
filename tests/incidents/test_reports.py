"""MTTA and MTTR by month and severity, counts by week, the slowest, and what is mostly noise: of what one may see."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.clock.database import database_time
from controlplane.web.bars import HEIGHT, bars_of
from incidents.models import Incident
from incidents.reports import Report

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def incident(
    *,
    days: float = 1,
    severity: str = "P1",
    acknowledged: float | None = 5,
    resolved: float | None = 60,
    environments: tuple[str, ...] = ("production",),
    **values: Any,
) -> Incident:
    """One that was opened so many days ago, acknowledged and resolved so many minutes after that."""
    at = database_time() - timedelta(days=days)
    state = "resolved" if resolved is not None else "acknowledged" if acknowledged is not None else "open"
    return Incident.objects.create(**{
        "title": "it broke", "severity": severity, "state": state, "opened_at": at, "opened_by_name": "system: alert",
        "acknowledged_at": at + acknowledged * MINUTE if acknowledged is not None else None,
        "resolved_at": at + resolved * MINUTE if resolved is not None else None,
        "environments": list(environments), **values,
    })  # fmt: skip


def report(person: Person, days: str = "") -> Report:
    return Report(Actor(person), days)


def test_medians_and_nine_in_ten(dana: Person) -> None:
    for minutes in (1, 2, 3, 4, 100):
        incident(acknowledged=minutes, resolved=minutes * 10)
    whole = report(dana).whole
    assert whole.count == 5
    assert list(whole.acknowledge or ()) == pytest.approx([180.0, 61.6 * 60])
    assert list(whole.resolve or ()) == pytest.approx([1800.0, 616.0 * 60])


def test_what_is_not_over_has_no_time_yet(dana: Person) -> None:
    incident(acknowledged=None, resolved=None)
    whole = report(dana).whole
    assert (whole.count, whole.acknowledge, whole.resolve) == (1, None, None)


def test_by_month_and_severity(dana: Person) -> None:
    incident(severity="P1", days=1)
    incident(severity="P3", days=1)
    incident(severity="P3", days=62)
    found = report(dana, "365")
    assert sorted((one.severity, one.count) for one in found.severities) == [("P1", 1), ("P3", 2)]
    assert sum(one.count for one in found.months) == 3
    months = [one.month for one in found.months]
    assert months == sorted(months, reverse=True)  # type: ignore[type-var]
    assert len(set(months)) >= 2


@pytest.mark.parametrize(
    ("days", "expected"), [("30", 1), ("90", 2), ("365", 3), ("", 2), ("7", 2), ("x", 2), ("9" * 9, 2)]
)
def test_the_span_is_one_of_three(dana: Person, days: str, expected: int) -> None:
    for age in (10, 60, 200, 400):
        incident(days=age)
    assert report(dana, days).whole.count == expected


def test_every_week_of_the_span_has_its_column(dana: Person) -> None:
    for _ in range(3):
        incident(severity="P2", days=1)
    incident(severity="P1", days=1)
    chart = report(dana, "30").weeks
    assert len(chart.columns) in (5, 6)
    assert chart.names == ["P1", "P2"]
    assert sum(column.total for column in chart.columns) == 4
    assert all(column.at.weekday() == 0 for column in chart.columns)


def test_the_slowest_come_first_and_never_is_slower(dana: Person) -> None:
    quick = incident(acknowledged=1)
    slow = incident(acknowledged=50)
    never = incident(days=2, acknowledged=None, resolved=None)
    rows = report(dana).slowest
    assert [one.pk for one in rows] == [never.pk, slow.pk, quick.pk]
    assert [one.never for one in rows] == [True, False, False]


def test_what_opens_by_itself_again_and_again_is_named(dana: Person) -> None:
    for _ in range(3):
        incident(title="DiskFull in production", group_key="disk", acknowledged=None, alert_count=7)
    incident(title="DiskFull in production", group_key="disk", alert_count=1)
    incident(title="only once", group_key="once")
    for _ in range(5):
        incident(title="opened by hand")
    (one,) = report(dana).noise
    assert (one.title, one.count, one.alerts, one.ignored, one.percent) == ("DiskFull in production", 4, 22, 3, 75)


def test_one_counts_only_what_one_sees(dana: Person, eve: Person, charlie: Person) -> None:
    incident()
    incident(environments=("development",))
    incident(environments=("development", "production"))
    incident(environments=())
    assert report(dana).whole.count == 4
    assert report(eve).whole.count == 1
    assert report(charlie).whole.count == 0


def test_the_page_takes_a_fixed_number_of_queries(client: Client, dana: Person) -> None:
    client.force_login(dana)
    for day in range(1, 80):
        incident(days=day, severity=f"P{1 + day % 4}", title=f"it broke {day % 9}", group_key=f"g{day}")
    with CaptureQueriesContext(connection) as queries:
        answer = client.get("/reports?days=365")
    assert answer.status_code == 200
    assert len(queries) <= 20
    text = answer.content.decode()
    assert len(text) < 100_000
    assert "<svg" in text
    assert text.count("<table") >= 3


@pytest.mark.parametrize(("acknowledged", "resolved"), [(None, None), (None, 3), (3, None)])
def test_what_has_no_time_yet_breaks_no_page(
    client: Client, dana: Person, acknowledged: float | None, resolved: float | None
) -> None:
    client.force_login(dana)
    incident(acknowledged=acknowledged, resolved=resolved)
    assert client.get("/reports").status_code == 200


@pytest.mark.parametrize("query", ["", "?days=30", "?days=", "?days=-1", "?days=½", "?days=99999999999"])
def test_whatever_the_address_says_the_page_answers(client: Client, dana: Person, query: str) -> None:
    client.force_login(dana)
    answer = client.get(f"/reports{query}")
    assert answer.status_code == 200
    assert "No incident in this time" in answer.content.decode()


def test_an_outsider_sees_an_empty_one_and_a_stranger_none(client: Client, charlie: Person) -> None:
    incident()
    assert client.get("/reports").status_code == 302
    client.force_login(charlie)
    assert "No incident in this time" in client.get("/reports").content.decode()


def test_bars_stay_inside_their_picture() -> None:
    days = [database_time() + timedelta(days=day) for day in range(3)]
    values = {(days[0], "a"): 10, (days[0], "b"): 30, (days[2], "b"): 5}
    for stacked in (True, False):
        chart = bars_of(days, ["a", "b"], values, stacked=stacked)
        assert [len(column.bars) for column in chart.columns] == [2, 0, 1]
        assert chart.top == (40 if stacked else 30)
        for column in chart.columns:
            for bar in column.bars:
                assert 0 <= float(bar.y) <= HEIGHT
                assert float(bar.y) + float(bar.height) <= HEIGHT + 0.2
    assert bars_of([], ["a"], {}).is_empty
