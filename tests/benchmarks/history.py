"""What a long history costs the reader: the deployments page, first and deep, at 1,000,000 rows against 1,000."""

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.urls import reverse

from controlplane.accounts.models import Grant, Person, Role
from deployments.models import Deployment, Release
from environments.models import Environment, Service
from tests.benchmarks.log import ratio

SMALL = 1_000
LARGE = 1_000_000
ROUNDS = 25

FILL = """
INSERT INTO operations_operation (kind, title, scopes, lock_names, state, reason, plan, plan_digest, gates,
    approvals_required, approver_role, requested_by_name, requested_at, queued_at, started_at, finished_at,
    cancel_requested_by_name,
    cancel_reason, outcome, worker, fence, last_seq)
SELECT 'deployment', 'Deploy sample 1.0.0 to production', '{production}', '{production}',
    CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'succeeded' END, 'change ' || n, '{"steps": [], "recovery": []}',
    repeat('0', 64), '[]', 1, 'approver', 'Alice', t, t, t, t + interval '90 seconds', '', '', '', '', 0, 0
FROM (SELECT n, now() - (%s - n) * interval '1 second' AS t FROM generate_series(%s, %s) n) rows
"""
ATTACH = """
INSERT INTO deployments_deployment (operation_id, kind, environment_id, release_id, from_version, from_digest)
SELECT id, 'deploy', %s, %s, '0.9.0', 'sha256:0'
FROM operations_operation o WHERE NOT EXISTS (SELECT 1 FROM deployments_deployment d WHERE d.operation_id = o.id)
"""


def run() -> dict[str, Any]:
    """The figures of `bin/bench history`."""
    person = Person.objects.create(username="bench")
    Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
    service = Service.objects.create(slug="sample", name="Sample")
    place = Environment.objects.create(slug="production", name="Production", driver="local")
    release = Release.objects.create(
        service=service, version="1.0.0", image="i", digest="sha256:1", created_by_name="b"
    )
    client = Client(SERVER_NAME="localhost")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    # Both sizes cannot stand in one table at once, so each is set against a page taken beside it: releases.
    small = _measure(client, place, release, 1, SMALL)
    large = _measure(client, place, release, SMALL + 1, LARGE)
    return {
        "ratio_first": round(large["first"] / small["first"], 2),
        "ratio_deep": round(large["deep"] / small["deep"], 2),
        "queries": max(large["queries"], small["queries"]),
        "bytes": max(large["bytes"], small["bytes"]),
    }


def _measure(client: Client, place: Environment, release: Release, start: int, end: int) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(FILL, [end, start, end])
        cursor.execute(ATTACH, [place.pk, release.pk])
        cursor.execute("ANALYZE")
    middle = Deployment.objects.order_by("-pk").values_list("pk", flat=True)[end // 2]
    first, deep = reverse("deployments"), f"{reverse('deployments')}?before={middle}"

    def page(address: str) -> Callable[[], bytes]:
        def get() -> bytes:
            answer = client.get(address)
            assert answer.status_code == 200, answer.status_code
            return answer.content

        return get

    asked: list[str] = []

    def count(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(count):
        size = len(page(first)())
    return {
        "first": ratio(page(first), page(reverse("releases")), ROUNDS),
        "deep": ratio(page(deep), page(reverse("releases")), ROUNDS),
        "queries": len(asked),
        "bytes": size,
    }
