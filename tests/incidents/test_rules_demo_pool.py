"""In the demo each instance of production that runs holds a connection, so that killing all of them is noticed."""

from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection

from incidents.demo import Breakable
from incidents.models import DatabaseProbe
from incidents.rules import databases, demo_pool
from tests.estate import Estate

pytestmark = pytest.mark.django_db


def url() -> str:
    return "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)


@pytest.fixture
def instances(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """Which run, by name; change it to kill or start one."""
    found = {"production-1": True, "production-2": True}
    monkeypatch.setenv("DEMO_DATABASE", url())
    monkeypatch.setattr(demo_pool, "breakable", lambda: [Breakable(*one) for one in found.items()])
    DatabaseProbe.objects.create(environment=estate.production, reference="env:DEMO_DATABASE")
    yield found
    found.clear()
    demo_pool.hold()


def names() -> list[str]:
    with psycopg.connect(url()) as other:
        rows = other.execute(
            "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE %s ORDER BY 1",
            [f"{demo_pool.NAME}%"],
        )
        return [str(row[0]) for row in rows]


def test_one_connection_for_each_instance_that_runs(instances: dict[str, bool]) -> None:
    assert demo_pool.hold() == 2
    assert names() == ["pitchey-backend production-1", "pitchey-backend production-2"]
    assert demo_pool.hold() == 2 and len(names()) == 2
    instances["production-2"] = False
    assert demo_pool.hold() == 1


def test_they_are_what_the_probe_counts(instances: dict[str, bool]) -> None:
    question = databases.Question(DatabaseProbe.objects.get().environment_id, "env:DEMO_DATABASE")
    before = databases.look(question).connections or 0
    demo_pool.hold()
    assert databases.look(question).connections == before + 2


def test_one_that_was_cut_is_opened_again(instances: dict[str, bool]) -> None:
    demo_pool.hold()
    with psycopg.connect(url(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE %s",
            [f"{demo_pool.NAME}%"],
        )
    assert demo_pool.hold() == 2 and len(names()) == 2


def test_a_database_that_is_not_there_yet_is_no_trouble(
    instances: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEMO_DATABASE")
    assert demo_pool.hold() == 0
    DatabaseProbe.objects.all().delete()
    assert demo_pool.hold() == 0
