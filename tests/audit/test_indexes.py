"""Each filter of the page has its index, in the order of the page: a million entries cost what a thousand do."""

import pytest
from django.db import connection
from django.db.models import QuerySet

from controlplane.accounts.models import Person
from controlplane.audit.forms import EntryFilter
from controlplane.audit.listing import known_actions, visible_entries
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db

MANY = """
    INSERT INTO audit_entry (id, at, actor, actor_id, via, action, target, scopes, reason, data, previous_hash, hash)
    SELECT n, timestamptz '2026-01-01' + n * interval '1 min', CASE n %% 500 WHEN 0 THEN 'Somebody' ELSE 'Alice' END,
        CASE n %% 500 WHEN 1 THEN %s ELSE 0 END, 'web', 'thing.' || n %% 500, 'thing ' || n,
        ARRAY[CASE n %% 500 WHEN 0 THEN 'development' ELSE 'production' END], '', '{}', lpad(n::text, 64, '0'), ''
    FROM generate_series(1, 20000) AS n
"""


@pytest.fixture
def many(alice: Person) -> None:
    """Twenty thousand entries; what the tests look for is one of 500."""
    with connection.cursor() as cursor:
        cursor.execute(MANY, [alice.pk])
        cursor.execute("ANALYZE audit_entry")


def plan(entries: QuerySet[Entry]) -> str:
    """How PostgreSQL would find the newest page."""
    return entries.order_by("-pk")[:51].explain()


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ({"person": "alice"}, "audit_actor_id"),
        ({"person": "somebody"}, "audit_actor"),
        ({"action": "thing.7"}, "audit_action"),
        ({"target": "THING 7"}, "audit_target"),
        ({"scope": "development"}, "audit_scopes"),
        ({"since": "2026-01-03", "until": "2026-01-04"}, "audit_entry_pkey"),
        ({}, "audit_entry_pkey"),
    ],
)
def test_a_filter_reads_its_index(many: None, given: dict[str, str], index: str) -> None:
    said = plan(Entry.objects.filter(EntryFilter(given).condition()))
    assert f" {index} " in f"{said} "
    assert "Seq Scan" not in said


def test_a_reader_of_a_rare_environment_reads_its_index(many: None, eve: Person) -> None:
    assert "audit_scopes" in plan(visible_entries(eve))


def test_the_actions_are_all_there(many: None) -> None:
    assert known_actions() == sorted(f"thing.{number}" for number in range(500))
