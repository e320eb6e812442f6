"""Metrics of our own probes: what was probed lately counts, and what was not is missing."""

import socket
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.db.models.functions import Now

from controlplane.embedded.processes import wait_until
from environments.models import HealthSample, Placement
from incidents.models import DatabaseProbe, DatabaseSample
from incidents.rules import databases, own_probes
from incidents.rules.evaluation import Reading
from incidents.rules.metrics import METRICS
from tests.estate import Estate
from tests.incidents.rules_world import connected, heard

pytestmark = pytest.mark.django_db


def read(name: str, slug: str = "production") -> Reading:
    return own_probes.read([name], [slug])[slug, name]


class TestHealth:
    def test_the_error_rate_is_failed_of_all_in_the_window(self, estate: Estate) -> None:
        heard("production", failed=1, good=3)
        heard("staging", failed=4)
        assert read("error_rate") == Reading(0.25)
        assert read("error_rate", "staging") == Reading(1.0)

    def test_what_is_older_than_the_window_does_not_count(self, estate: Estate) -> None:
        heard("production", failed=10, ago=301)
        heard("production", good=1, ago=20)
        assert read("error_rate") == Reading(0.0)

    def test_no_probe_lately_is_missing_whatever_was_heard_before(self, estate: Estate) -> None:
        heard("production", good=10, ago=120)
        assert read("error_rate") == own_probes.NOT_PROBED
        assert read("p95_response_time") == own_probes.NOT_PROBED

    def test_the_95th_percentile_in_ms(self, estate: Estate) -> None:
        for latency in range(1, 102):
            heard("production", good=1, latency_ms=float(latency), ago=30)
        assert read("p95_response_time") == Reading(96.0)

    def test_nobody_who_answers_has_no_response_time(self, estate: Estate) -> None:
        heard("production", failed=3)
        assert read("p95_response_time") == own_probes.NO_ANSWER


class TestInstances:
    def test_the_latest_word_of_each_counts(self, estate: Estate) -> None:
        placement = Placement.objects.get(environment=estate.production)
        for name, healthy in (("production-1", True), ("production-2", True), ("production-3", True)):
            HealthSample.objects.create(placement=placement, instance=name, healthy=healthy)
        HealthSample.objects.create(placement=placement, instance="production-9", healthy=True)  # no longer there
        assert read("instances_healthy") == Reading(3.0)
        HealthSample.objects.create(
            placement=placement, instance="production-2", healthy=False, at=Now() + timedelta(seconds=1)
        )
        assert (read("instances_healthy"), read("instances")) == (Reading(2.0), Reading(3.0))

    def test_unheard_of_is_missing_and_cold_has_none(self, estate: Estate) -> None:
        assert (read("instances_healthy"), read("instances")) == (own_probes.NOT_PROBED, Reading(3.0))
        Placement.objects.update(version="")
        assert read("instances") == read("instances_healthy") == own_probes.NOTHING_RUNS


class TestDatabases:
    def test_the_latest_look(self, estate: Estate) -> None:
        DatabaseProbe.objects.create(environment=estate.production, reference="env:NOWHERE")
        connected("production", 7, ago=20)
        connected("production", 0, ago=5)
        assert (read("db_connections"), read("db_connections_max")) == (Reading(0.0), Reading(100.0))

    def test_what_could_not_be_asked_is_missing_with_its_reason(self, estate: Estate) -> None:
        DatabaseProbe.objects.create(environment=estate.production, reference="env:NOWHERE")
        assert read("db_connections") == own_probes.NOT_ASKED
        connected("production", None, "password authentication failed")
        assert read("db_connections") == Reading(None, "password authentication failed")
        DatabaseSample.objects.all().delete()
        connected("production", 7, ago=90)
        assert read("db_connections") == own_probes.NOT_ASKED
        DatabaseProbe.objects.update(interval_seconds=60)
        assert read("db_connections") == Reading(7.0)

    def test_without_a_probe(self, estate: Estate) -> None:
        connected("production", 7)
        assert read("db_connections") == own_probes.NO_DATABASE


def test_every_metric_is_answered_for_every_environment(estate: Estate) -> None:
    found = own_probes.read(list(METRICS), ["staging", "production", "nowhere"])
    assert found.keys() == {(slug, name) for slug in ("staging", "production", "nowhere") for name in METRICS}
    assert found["staging", "memory_used"] == own_probes.NOT_MEASURED
    assert all(one.words for one in found.values() if one.value is None)


# --- Looking at databases -----------------------------------------------------------------------------


@pytest.fixture
def probe(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> DatabaseProbe:
    """Of a database that is there: the one of the tests."""
    monkeypatch.setenv("LOOKED_AT", url())
    return DatabaseProbe.objects.create(environment=estate.production, reference="env:LOOKED_AT")


def url(**changes: str) -> str:
    values = {**connection.settings_dict, **changes}
    return "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**values)


def sample() -> DatabaseSample:
    DatabaseProbe.objects.update(due_at=Now() - timedelta(seconds=1))
    assert databases.probe_due() == 1
    return DatabaseSample.objects.latest("pk")


def test_it_counts_the_others(probe: DatabaseProbe) -> None:
    before = sample()
    assert before.connections is not None and before.most and before.connections >= 1
    own = [psycopg.connect(url(), application_name=name) for name in (databases.NAME, "controlplane")]
    with psycopg.connect(url(), application_name="pitchey-backend"), own[0], own[1]:
        there = sample()
    assert there.connections == before.connections + 1  # neither another probe nor a backup is counted
    assert there.words == f"{there.connections} connections of {there.most}"


def test_the_next_look_is_when_its_interval_is_over(probe: DatabaseProbe) -> None:
    assert (databases.probe_due(), databases.probe_due()) == (1, 0)
    assert DatabaseProbe.objects.filter(due_at__gt=Now() + timedelta(seconds=10)).exists()


def test_where_nobody_listens_nobody_is_connected(probe: DatabaseProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKED_AT", url(HOST="127.0.0.1", PORT="1"))
    found = sample()
    assert (found.connections, found.most) == (0, None) and "Connection refused" in found.words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("postgresql://nobody-there:secret-word@127.0.0.1:{PORT}/{NAME}", "nobody-there"),
        ("http://127.0.0.1/", "is no URL of a PostgreSQL database"),
        (None, "is not set for this process"),
    ],
)
def test_what_cannot_be_asked_is_not_zero(
    probe: DatabaseProbe, monkeypatch: pytest.MonkeyPatch, value: str | None, words: str
) -> None:
    monkeypatch.delenv("LOOKED_AT")
    if value:
        monkeypatch.setenv("LOOKED_AT", value.format(**connection.settings_dict))
    found = sample()
    assert (found.connections, found.most) == (None, None)
    assert words in found.words and "secret-word" not in found.words


@pytest.fixture
def stopped() -> Iterator[str]:
    """A listener that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://u:p@127.0.0.1:{server.getsockname()[1]}/d"


def test_a_server_that_says_nothing_does_not_keep_the_clock(
    probe: DatabaseProbe, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "CONNECT_SECONDS", 2)  # the least that libpq knows
    monkeypatch.setenv("LOOKED_AT", stopped)
    found = sample()
    assert found.connections is None and "timeout" in found.words


def test_one_that_stops_in_the_middle_is_cut_off(probe: DatabaseProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(databases, "COUNT", "SELECT count(*), 1 FROM pg_sleep(1) WHERE %s <> ''")
    found = sample()
    assert found.connections is None and found.words
    assert wait_until(lambda: not _others(), 10)  # its server process has slept enough, too


def _others() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [databases.NAME])
        return int(cursor.fetchone()[0])


def test_samples_are_kept_for_a_day(estate: Estate) -> None:
    connected("production", 1, ago=86_500)
    connected("production", 2, ago=86_000)
    assert databases.forget_old() == 1
    assert DatabaseSample.objects.get().connections == 2
