"""Database time: the only time by which anything is due, whatever the clocks of the machines say."""

from datetime import datetime

from django.db import connection


def database_time() -> datetime:
    """Now, also in the middle of a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now
