"""What a PostgreSQL server is asked: does it follow, how far is it, what is the newest row."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from backups.disaster.base import Side
from backups.programs import Server
from controlplane.operations.errors import StepError

# A fenced database takes no writes by its own settings; ours say what they want.
# What we say is done is on the disk there.
WRITING = "-c default_transaction_read_only=off -c synchronous_commit=local -c statement_timeout=60s"
# What the primary sent last it sent as of that time; a line that is silent still counts as streaming for a minute.
FOLLOWING = """
SELECT pg_is_in_recovery(),
       EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'),
       coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0)::bigint,
       CASE WHEN EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming')
                 AND pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()
            THEN (SELECT least(last_msg_send_time, clock_timestamp()) FROM pg_stat_wal_receiver)
            ELSE coalesce(pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_control_checkpoint())) END
"""
COMMITTED = "SELECT (pg_last_committed_xact()).timestamp"  # an error where track_commit_timestamp is off
WHO = "SELECT system_identifier::text FROM pg_control_system()"
BEHIND = "SELECT pg_wal_lsn_diff(%s::pg_lsn, pg_last_wal_replay_lsn())::bigint"


@dataclass(frozen=True)
class Standing:
    """A standby at one moment. streams: it receives. bytes: received and not replayed. as_of: by the server's clock."""

    streams: bool
    bytes: int
    as_of: datetime


def server_of(side: Side) -> Server:
    """The server and database of a side, as an administrator. Raises StepError."""
    return Server.at(str(side.settings["database"]))


def following(server: Server) -> Standing | None:
    """How a standby stands; None for a server that follows nobody. Raises StepError."""
    row = asked(server, FOLLOWING)
    if not row[0]:
        return None
    return Standing(bool(row[1]), int(row[2]), row[3])


def newest_row(server: Server, question: str) -> datetime:
    """As of when the newest row is. Raises StepError, also when the plan's question has no time for an answer."""
    if not question:
        stand = following(server)
        if stand:
            return stand.as_of
        question = COMMITTED
    at = asked(server, question, read_only=True)[0]
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise StepError(f"The question for the newest row of {server} was answered with {at}, which is no time.")
    return at


def asked(server: Server, question: str, *values: object, read_only: bool = False) -> tuple[Any, ...]:
    """The first row of the answer. Raises StepError in the server's words."""
    options = "-c default_transaction_read_only=on -c statement_timeout=60s" if read_only else WRITING
    try:
        with server.connect(autocommit=True, options=options) as connection:
            row = connection.execute(question.encode(), values or None).fetchone()
    except psycopg.Error as error:
        raise StepError(f"{server} refuses: {' '.join(str(error).split())}") from None
    if row is None:
        raise StepError(f"{server} answered nothing.")
    return row


def told(server: Server, *statements: sql.Composed | sql.SQL) -> None:
    """Have statements carried out one by one. Raises StepError in the server's words."""
    try:
        with server.connect(autocommit=True, options=WRITING) as connection:
            for statement in statements:
                connection.execute(statement)
    except psycopg.Error as error:
        raise StepError(f"{server} refuses: {' '.join(str(error).split())}") from None
