"""What the control plane's own probes say: of health (environments/probes.py) and of databases (databases.py).

What was not probed lately is missing, whatever was heard before.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import connection

from environments.samples import FRESH
from incidents.rules.evaluation import Reading
from incidents.rules.metrics import METRICS, WINDOW_SECONDS

# A database that was asked longer ago than this, or than three of its intervals, was not asked lately.
FRESH_DATABASE = timedelta(seconds=60)
HEALTH = ("error_rate", "p95_response_time")
INSTANCES = ("instances", "instances_healthy")
DATABASE = ("db_connections", "db_connections_max")

# By environment: what the probes of the window found.
HEALTH_SQL = """
    SELECT e.slug, (count(*) FILTER (WHERE NOT s.healthy))::float / count(*),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY s.latency_ms) FILTER (WHERE s.latency_ms IS NOT NULL),
        max(s.at) > clock_timestamp() - %(fresh)s
    FROM environments_healthsample s
    JOIN environments_placement p ON p.id = s.placement_id JOIN environments_environment e ON e.id = p.environment_id
    WHERE e.slug = ANY(%(slugs)s) AND s.at > clock_timestamp() - %(window)s GROUP BY e.slug
"""
# By environment: the instances of what was ever deployed there, and how many of them said lately that they are well.
INSTANCES_SQL = """
    SELECT e.slug, sum(greatest(jsonb_array_length(p.instances), 1))::float, sum(latest.healthy)::float,
        coalesce(bool_or(latest.heard), false)
    FROM environments_placement p JOIN environments_environment e ON e.id = p.environment_id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE one.healthy) AS healthy, count(*) > 0 AS heard FROM (
            SELECT DISTINCT ON (s.instance) s.healthy FROM environments_healthsample s
            WHERE s.placement_id = p.id AND s.at > clock_timestamp() - %(fresh)s
                AND (p.instances = '[]' OR p.instances @> jsonb_build_array(jsonb_build_object('name', s.instance)))
            ORDER BY s.instance, s.at DESC
        ) AS one
    ) AS latest
    WHERE e.slug = ANY(%(slugs)s) AND p.version <> '' GROUP BY e.slug
"""
# By environment with a database probe: its latest sample.
DATABASE_SQL = """
    SELECT e.slug, s.connections, s.most, s.words,
        s.at > clock_timestamp() - greatest(%(fresh)s, make_interval(secs => 3 * d.interval_seconds))
    FROM incidents_databaseprobe d JOIN environments_environment e ON e.id = d.environment_id
    LEFT JOIN LATERAL (
        SELECT * FROM incidents_databasesample s WHERE s.environment_id = e.id ORDER BY s.at DESC LIMIT 1
    ) AS s ON true
    WHERE e.slug = ANY(%(slugs)s)
"""
NOT_PROBED = Reading(None, f"no probe within {FRESH.seconds} s")
NO_ANSWER = Reading(None, f"no probe was answered within {WINDOW_SECONDS // 60} min")
NOTHING_RUNS = Reading(None, "nothing was ever deployed there")
NO_DATABASE = Reading(None, "no database probe is declared for it")
NOT_ASKED = Reading(None, "the database was not asked lately")
NOT_MEASURED = Reading(None, "the probes do not measure it; a Prometheus server does (PROMETHEUS_URL)")

Readings = dict[tuple[str, str], Reading]


def read(wanted: Collection[str], environments: Sequence[str]) -> Readings:
    """By environment and metric; one query for each kind of probe that is wanted."""
    found: Readings = {}
    for names, function in ((HEALTH, _health), (INSTANCES, _instances), (DATABASE, _databases)):
        if not set(names).isdisjoint(wanted):
            found.update(function(list(environments)))
    for name in wanted:
        if not METRICS[name].probed:
            found.update({(slug, name): NOT_MEASURED for slug in environments})
    return found


def _health(slugs: list[str]) -> Readings:
    found = {(slug, name): NOT_PROBED for slug in slugs for name in HEALTH}
    values = {"slugs": slugs, "fresh": FRESH, "window": timedelta(seconds=WINDOW_SECONDS)}
    for slug, rate, p95, fresh in _rows(HEALTH_SQL, values):
        if fresh:
            found[slug, "error_rate"] = Reading(rate)
            found[slug, "p95_response_time"] = NO_ANSWER if p95 is None else Reading(p95)
    return found


def _instances(slugs: list[str]) -> Readings:
    found = {(slug, name): NOTHING_RUNS for slug in slugs for name in INSTANCES}
    for slug, instances, healthy, heard in _rows(INSTANCES_SQL, {"slugs": slugs, "fresh": FRESH}):
        found[slug, "instances"] = Reading(instances)
        found[slug, "instances_healthy"] = Reading(healthy) if heard else NOT_PROBED
    return found


def _databases(slugs: list[str]) -> Readings:
    found = {(slug, name): NO_DATABASE for slug in slugs for name in DATABASE}
    for slug, connections, most, words, fresh in _rows(DATABASE_SQL, {"slugs": slugs, "fresh": FRESH_DATABASE}):
        for name, value in zip(DATABASE, (connections, most), strict=True):
            unknown = Reading(None, words or "not known")
            found[slug, name] = (unknown if value is None else Reading(float(value))) if fresh else NOT_ASKED
    return found


def _rows(query: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
