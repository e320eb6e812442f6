"""What the numbers of deployments cost: half a year of 100,000 deployments, alone and after 900,000 older ones."""

import time
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client

from controlplane.accounts.models import Grant, Person, Role
from deployments.models import Release
from environments.models import Environment, Placement, Service

WINDOW, ALL = 100_000, 1_000_000
SECONDS_BETWEEN = 155  # so that half a year holds as many as the window
RELEASES, ROUNDS = 2_000, 15
ADDRESS = "/deployments/numbers?place=sample/production&weeks=26"

FILL = """
INSERT INTO operations_operation (kind, title, scopes, lock_names, state, reason, plan, plan_digest, gates,
    approvals_required, approver_role, approver_groups, requested_by_name, requested_at, queued_at, started_at,
    finished_at, cancel_requested_by_name, cancel_reason, outcome, worker, fence, last_seq)
SELECT 'deployment', 'Deploy sample ' || n, '{production}', '{production}',
    CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'succeeded' END, 'change ' || n, '{"steps": [], "recovery": []}',
    repeat('0', 64), '[]', 1, 'approver', '[]', 'Alice', t, t, t, t + interval '90 seconds', '', '', '', '', 0, 0
FROM (SELECT n, now() - n * make_interval(secs => %s) AS t FROM generate_series(%s, %s) n) rows
"""
ATTACH = """
INSERT INTO deployments_deployment (operation_id, kind, environment_id, release_id, strategy, from_version, from_digest)
SELECT id, CASE WHEN id %% 40 = 0 THEN 'rollback' ELSE 'deploy' END, %s, %s + id %% %s, 'rolling', '', ''
FROM operations_operation o WHERE NOT EXISTS (SELECT FROM deployments_deployment d WHERE d.operation_id = o.id)
"""


def run() -> dict[str, Any]:
    """The figures of `bin/bench numbers`."""
    person = Person.objects.create(username="bench")
    Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
    service = Service.objects.create(slug="sample", name="Sample")
    place = Environment.objects.create(slug="production", name="Production", driver="local")
    Placement.objects.create(environment=place, service=service, instances=[], version="1.0.0")
    Release.objects.bulk_create(
        Release(service=service, version=f"1.0.{n}", image="i", digest=f"sha256:{n}", created_by_name="b")
        for n in range(RELEASES)
    )
    first = Release.objects.order_by("pk").values_list("pk", flat=True)[0]
    client = Client(SERVER_NAME="localhost")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    _fill(place, first, 1, WINDOW)
    alone, _, _ = _measure(client)
    _fill(place, first, WINDOW + 1, ALL)
    after, queries, size = _measure(client)
    return {
        "ratio": round(after / alone, 2),
        "ms_half_a_year": round(after * 1000),
        "queries": queries,
        "bytes": size,
    }


def _fill(place: Environment, first: int, start: int, end: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(FILL, [SECONDS_BETWEEN, start, end])
        cursor.execute(ATTACH, [place.pk, first, RELEASES])
        cursor.execute("VACUUM ANALYZE")


def _measure(client: Client) -> tuple[float, int, int]:
    """Seconds of the quickest round, queries, bytes."""
    asked: list[str] = []

    def count(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(count):
        size = len(client.get(ADDRESS).content)
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        assert client.get(ADDRESS).status_code == 200
        taken.append(time.perf_counter() - began)
    return min(taken), len(asked), size
