"""Whoever is in the database while it is emptied is waited for, and never waits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from controlplane.accounts.models import Person
from controlplane.embedded.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
LESS_THAN_A_DEADLOCK = "SET lock_timeout = '500ms'"  # that shows after a second


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    url = connection.get_connection_params()
    parts = {name: url[name] for name in ("host", "port", "user", "password", "dbname") if name in url}
    with psycopg.connect(**parts) as other:
        yield other


def _flush() -> None:
    try:
        call_command("flush", interactive=False, verbosity=0)
    finally:
        connection.close()


def _asked_for_the_tables() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND query ~ '^(LOCK|TRUNCATE|ROLLBACK)'"
        )
        return bool(cursor.rowcount)


def test_who_goes_from_table_to_table_is_never_made_to_wait(alice: Person, other: psycopg.Connection[Any]) -> None:
    other.execute(LESS_THAN_A_DEADLOCK)
    other.commit()
    other.execute("SELECT FROM accounts_person")
    with ThreadPoolExecutor(1) as pool:
        emptied = pool.submit(_flush)
        assert wait_until(_asked_for_the_tables, 40)
        for table in connection.introspection.django_table_names(only_existing=True):
            other.execute(f'SELECT FROM "{table}"')
        assert not emptied.done()
        other.commit()
        emptied.result(20)
    assert not Person.objects.exists()
