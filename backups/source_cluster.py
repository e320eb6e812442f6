"""What a PostgreSQL cluster says of itself to those who copy it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

from backups.programs import Server
from controlplane.operations.errors import StepError

TABLESPACES_OF_EVERY_CLUSTER = 2  # pg_default and pg_global


@dataclass(frozen=True)
class Cluster:
    """now: by its clock. version: a number, as in 180004. superuser: its first role, who may do everything."""

    system_identifier: str
    timeline: int
    now: datetime
    version: int
    server_version: str
    segment_bytes: int
    superuser: str
    wal_level: str
    wal_senders: int
    senders_in_use: int
    summarizes_wal: bool
    tablespaces: int

    @property
    def major(self) -> int:
        """As in 18."""
        return self.version // 10000

    def facts(self) -> Mapping[str, Any]:
        """For a manifest."""
        said = asdict(self)
        names = "system_identifier", "timeline", "server_version", "segment_bytes", "superuser"
        return {name: said[name] for name in names}


ASK = """
    SELECT clock_timestamp(), current_setting('server_version_num')::int, current_setting('server_version'),
           (SELECT setting::bigint * CASE unit WHEN '8kB' THEN 8192 WHEN 'B' THEN 1 END
              FROM pg_settings WHERE name = 'wal_segment_size'),
           (SELECT rolname FROM pg_roles WHERE oid = 10),
           current_setting('wal_level'), current_setting('max_wal_senders')::int,
           (SELECT count(*) FROM pg_stat_replication),
           coalesce(current_setting('summarize_wal', true), 'off') = 'on',
           (SELECT count(*) FROM pg_tablespace)
"""


def cluster_at(server: Server) -> Cluster:
    """Ask for it, over a connection for replication too. Raises StepError, in words that say what to change."""
    identifier, timeline = _identify(server)
    with server.connect(autocommit=True) as connection:
        row = connection.execute(ASK).fetchone()
    assert row is not None
    now, version, words, segment_bytes, superuser, wal_level, senders, in_use, summarizes, tablespaces = row
    return Cluster(
        identifier, timeline, now, version, words.split()[0], segment_bytes, superuser, wal_level, senders, in_use,
        summarizes, tablespaces,
    )  # fmt: skip


def _identify(server: Server) -> tuple[str, int]:
    try:
        connection = server.connect(replication="true", autocommit=True)
    except StepError as error:
        raise StepError(
            f"{error} For replication it needs: ALTER ROLE {server.user} REPLICATION; a line "
            f"“host replication {server.user} …” in pg_hba.conf; max_wal_senders and wal_level = replica in "
            "postgresql.conf."
        ) from None
    with connection:
        answer = connection.pgconn.exec_(b"IDENTIFY_SYSTEM")
        identifier, timeline = answer.get_value(0, 0), answer.get_value(0, 1)
        if answer.status != psycopg.pq.ExecStatus.TUPLES_OK or identifier is None or timeline is None:
            raise StepError(f"{server} does not say who it is: {answer.error_message.decode(errors='replace')}")
        return identifier.decode(), int(timeline)


def problem_with(cluster: Cluster, server: Server) -> str:
    """Why it cannot be copied and its WAL received, in words that name the setting; "" when it can."""
    if cluster.wal_level == "minimal":
        return f"{server} has wal_level = minimal. Set wal_level = replica in postgresql.conf and restart it."
    if cluster.wal_senders - cluster.senders_in_use < 1:
        return (
            f"{server} allows {cluster.wal_senders} connections for replication, and all are in use. "
            "Set max_wal_senders higher in postgresql.conf and restart it."
        )
    if cluster.tablespaces > TABLESPACES_OF_EVERY_CLUSTER:
        return (
            f"{server} has tablespaces of its own, which a streamed base backup cannot hold. Move what is in them to "
            "pg_default (ALTER DATABASE … SET TABLESPACE, ALTER TABLE … SET TABLESPACE) and drop them, or use a dump."
        )
    return ""
