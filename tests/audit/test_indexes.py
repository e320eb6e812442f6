"""Each filter of the page has its index, in the order of the page: a million entries cost what a thousand do.

The plans are those of the statements that the page truly sends.
"""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.accounts.models import Person
from controlplane.audit.forms import EntryFilter
from controlplane.audit.listing import Listing, known_actions

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


def plans(reader: Person, given: dict[str, str]) -> list[str]:
    """How PostgreSQL finds the keys of the newest page."""
    with CaptureQueriesContext(connection) as sent:
        Listing(reader, EntryFilter(given).wanted()).page()
    searches = [query["sql"] for query in sent if "LIMIT 51" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {searches[-1]}")
        return [row[0] for row in cursor.fetchall()]


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
def test_a_filter_reads_its_index(many: None, ada: Person, given: dict[str, str], index: str) -> None:
    said = plans(ada, given)
    assert [line for line in said if "Index" in line and f" {index} " in f"{line} "], said
    assert not [line for line in said if "Seq Scan" in line], said


def test_a_reader_of_a_rare_environment_reads_its_index(many: None, eve: Person) -> None:
    said = plans(eve, {})
    assert [line for line in said if "audit_scopes" in line], said
    assert not [line for line in said if "Seq Scan" in line], said


def test_the_actions_are_all_there(many: None) -> None:
    assert known_actions() == sorted(f"thing.{number}" for number in range(500))
