"""Empties the tables between tests, which the audit trail's trigger rightly refuses, and quickly.

Only the flush runs as a replica, where triggers do not fire; the tests themselves meet them. To truncate a hundred
tables took longer than most tests: as long as nobody else is in the database, only what has rows is deleted. What
migrations wrote down of the models stays, and so has not to be written anew.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.core.management.commands import flush
from django.db import OperationalError, connection
from django.db.backends.postgresql.operations import DatabaseOperations
from psycopg.errors import LockNotAvailable

from controlplane.embedded.processes import wait_until

SECONDS = 30
OF_THE_MODELS = {"django_content_type", "auth_permission"}
AS_REPLICA = "SET LOCAL session_replication_role = replica"
OTHERS = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND backend_type = 'client backend')
"""
WHO = """
    SELECT application_name || ' ' || state || ': ' || query FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""
# Nothing else does it here: the servers of tests run without autovacuum.
TO_VACUUM = "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_relation_size(oid) > 1000000"

_truncate = DatabaseOperations.sql_flush
_execute = DatabaseOperations.execute_sql_flush


def _statements(self: DatabaseOperations, style: Any, tables: Sequence[str], **options: Any) -> list[str]:
    tables = [table for table in tables if table not in OF_THE_MODELS]
    if _ask(OTHERS) == [True] or options.get("reset_sequences"):
        # What they have not committed yet is waited for, and cannot come back after it.
        return list(_truncate(self, style, tables, **options))
    names = {one: self.quote_name(one) for one in tables}
    filled = " UNION ALL ".join(f"SELECT '{one}' WHERE EXISTS (SELECT FROM {name})" for one, name in names.items())
    return [f"DELETE FROM {names[one]}" for one in _ask(filled)]


def _run(self: DatabaseOperations, sql_list: list[str]) -> None:
    truncated = [name for statement in sql_list if statement.startswith("TRUNCATE") for name in _tables_of(statement)]
    if truncated:
        took = wait_until(lambda: _ran_alone(self, truncated, sql_list), SECONDS)
        assert took, f"Somebody was in the tables for {SECONDS} s: {_ask(WHO)}"
        return
    _execute(self, [AS_REPLICA, *sql_list])
    for table in _ask(TO_VACUUM, [_tables_of(statement)[0] for statement in sql_list]) if sql_list else []:
        with connection.cursor() as cursor:
            cursor.execute(f'VACUUM "{table}"')


def _ran_alone(self: DatabaseOperations, tables: list[str], sql_list: list[str]) -> bool:
    """Whether all of `tables` could be had at once.

    Who takes them one by one meets a worker or a clock that has taken them in another order; and always loses, as it
    waited first.
    """
    lock = f"LOCK TABLE {', '.join(map(self.quote_name, tables))} IN ACCESS EXCLUSIVE MODE NOWAIT"
    try:
        _execute(self, [AS_REPLICA, lock, *sql_list])
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            return False
        raise
    return True


def _tables_of(statement: str) -> list[str]:
    return statement.split('"')[1::2]


def _ask(query: str, *parameters: list[str]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [row[0] for row in cursor.fetchall()]


@pytest.fixture(autouse=True, scope="session")
def _quick_flush_as_replica() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "sql_flush", _statements)
        patch.setattr(DatabaseOperations, "execute_sql_flush", _run)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *options: None)
        yield
