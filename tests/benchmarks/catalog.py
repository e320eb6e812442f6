"""What a long catalog costs the reader: catalog, search and overview at 1,000,000 backups against 1,000."""

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.urls import reverse

from backups.models import Backup, Kind, Policy, PolicyClock, Storage
from controlplane.accounts.models import Grant, Person, Role
from environments.models import Environment
from tests.benchmarks.log import ratio

SMALL, LARGE = 1_000, 1_000_000
POLICIES = 5
ROUNDS = 25

FILL = """
INSERT INTO backups_backup (environment_id, policy_id, policy_slug, kind, level, state, storage_id, key, operation_id,
    as_of, started_at, finished_at, seconds, size, source_bytes, sha256, key_id, server_version, tool_version,
    wal_start, wal_end, digest, manifest, kept_because, hold_reason, held_by_name, verdict, verdict_words)
SELECT %(environment)s, policy.id, policy.slug, 'database', 'full', 'available', %(storage)s, 'k/' || n || '/', n,
    t, t, t, 3.5, 1000000 + n, 5000000, repeat('0', 64), '', '18.0', '18.0', '', '', '',
    '{"facts": {"tables": []}}', 'younger than 30 days', '', '', CASE WHEN n %% 3 = 0 THEN 'proven' ELSE '' END, ''
FROM (SELECT n, now() - (%(last)s - n) * interval '1 second' AS t FROM generate_series(%(first)s, %(last)s) n) rows
JOIN backups_policy policy ON policy.slug = 'p' || n %% %(policies)s
"""


def run() -> dict[str, Any]:
    """The figures of `bin/bench catalog`."""
    person = Person.objects.create(username="bench")
    Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
    place = Environment.objects.create(slug="production", name="Production", driver="local")
    storage = Storage.objects.create(slug="archive", kind="folder", settings={"path": "backups"})
    for number in range(POLICIES):
        policy = Policy.objects.create(
            environment=place, slug=f"p{number}", kind=Kind.DATABASE, storage=storage, schedule="0 2 * * *"
        )
        PolicyClock.objects.create(policy=policy)
    client = Client(SERVER_NAME="localhost")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    # Both sizes cannot stand in one table at once, so each is set against a page taken beside it: releases.
    small = _measure(client, place, storage, 1, SMALL)
    large = _measure(client, place, storage, SMALL + 1, LARGE)
    pages = ("first", "deep", "search", "location", "overview", "board")
    return {f"ratio_{page}": round(large[page] / small[page], 2) for page in pages} | {
        "queries": max(large["queries"], small["queries"]),
        "bytes": max(large["bytes"], small["bytes"]),
    }


def _measure(client: Client, place: Environment, storage: Storage, first: int, last: int) -> dict[str, Any]:
    values = {"environment": place.pk, "storage": storage.pk, "first": first, "last": last, "policies": POLICIES}
    with connection.cursor() as cursor:
        cursor.execute(FILL, values)
        cursor.execute("VACUUM ANALYZE backups_backup")
    middle = Backup.objects.order_by("-pk").values_list("pk", flat=True)[last // 2]
    catalog = reverse("backup-catalog")
    addresses = {
        "first": catalog, "deep": f"{catalog}?before={middle}", "search": f"{catalog}?q=p3+database",
        "location": f"{catalog}?q=k/{last}/", "overview": reverse("backups"), "board": reverse("board"),
    }  # fmt: skip
    found = {
        name: ratio(_page(client, at), _page(client, reverse("releases")), ROUNDS) for name, at in addresses.items()
    }
    return found | _largest(client, addresses.values())


def _page(client: Client, address: str) -> Callable[[], bytes]:
    def get() -> bytes:
        answer = client.get(address)
        assert answer.status_code == 200, answer.status_code
        return answer.content

    return get


def _largest(client: Client, addresses: Any) -> dict[str, Any]:
    """The most queries and bytes that any of the pages takes."""
    queries, size = 0, 0
    for address in addresses:
        asked: list[str] = []

        def count(execute: Callable[..., Any], sql: str, *rest: Any, asked: list[str] = asked) -> Any:
            asked.append(sql)
            return execute(sql, *rest)

        with connection.execute_wrapper(count):
            size = max(size, len(_page(client, address)()))
        queries = max(queries, len(asked))
    return {"queries": queries, "bytes": size}
