"""One stream of WAL, from the server to the storage, for as long as this receiver holds it.

1. The row is held by a lease of database time; every write of ours names the fence.
2. A replication slot keeps on the server what is not in the storage yet, and only that: it is moved on after the
   rows say that something is there. So a receiver, its machine and its spool may be lost at any moment.
3. Where to go on is what the rows say: the segment after the last whole one in the storage.
4. If the server does not have that segment any more (the slot was dropped, or lost by a limit of the server), what
   is missing is a gap: a new range begins with what the server still has.
5. What has arrived is put into the storage in order; every few seconds also the beginning of the segment that is
   still growing, so that only seconds can be lost with the server.
6. The server's clock and position are asked every second. Once that position is in the storage, so is all that was
   committed by that time.
"""

import logging
import threading
import time
from collections import deque
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection as own_connection
from django.db import transaction
from django.db.models.functions import Now

from backups.jobs import sealer_of, store_of
from backups.models import Policy, WalStream
from backups.programs import Server
from backups.source_cluster import Cluster, cluster_at
from backups.wal import slot_of
from backups.wal_archive import Archive, Arrived
from backups.wal_segments import Segment, position
from backups.wal_spool import Spool
from controlplane.operations.errors import LeaseLost, StepError

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
TICK_SECONDS = 0.1
POLL_SECONDS = 1.0
BEGINNING_SECONDS = 5.0
# Nothing arrived for so long though the server has more: the connection is dead, whatever TCP thinks of it.
STUCK_SECONDS = 30.0
# More than this waits for the storage: the server keeps the rest, the disk is not filled.
MOST_WAITING = 64

# Committed by that time is what stands before `written`: with synchronous_commit off it may not be flushed yet. A
# transaction takes its time of commit a moment before it writes it, hence the tenth of a second.
POLL = """
    SELECT clock_timestamp() - interval '100 ms',
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_insert_lsn() END::text,
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END::text,
           slot.slot_name, slot.restart_lsn::text, slot.wal_status
      FROM (VALUES (1)) AS one LEFT JOIN pg_replication_slots AS slot ON slot_name = %s
"""
PAGE_BYTES = 8192
LONGEST_PAGE_HEADER = 40


class Hold:
    """The right to write one stream's rows. check() renews it when it is time, and raises LeaseLost when it is gone."""

    def __init__(self, stream_id: int, fence: int) -> None:
        self.stream_id = stream_id
        self.fence = fence
        self._renewed = time.monotonic()

    def check(self) -> None:
        """Call it right before an effect."""
        if time.monotonic() - self._renewed > POLL_SECONDS:
            self.write()

    def write(self, **values: Any) -> None:
        """Change the row, and hold it for longer."""
        rows = WalStream.objects.filter(pk=self.stream_id, fence=self.fence)
        if not rows.update(lease_until=Now() + timedelta(seconds=LEASE_SECONDS), **values):
            raise LeaseLost(f"WAL stream {self.stream_id}: another receiver holds it")
        self._renewed = time.monotonic()

    def release(self) -> None:
        """Let another receiver have it at once."""
        WalStream.objects.filter(pk=self.stream_id, fence=self.fence).update(lease_until=None)


def hold(policy: Policy, receiver: str) -> Hold | None:
    """Take the stream of a policy; None while somebody else has it."""
    WalStream.objects.get_or_create(policy=policy, defaults={"slot": slot_of(policy)})
    with transaction.atomic(), own_connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backups_walstream SET receiver = %s, fence = nextval('operations_fence'), slot = %s,"
            " lease_until = clock_timestamp() + make_interval(secs => %s)"
            " WHERE policy_id = %s AND (lease_until IS NULL OR lease_until < clock_timestamp()) RETURNING id, fence",
            [receiver, slot_of(policy), LEASE_SECONDS, policy.pk],
        )
        row = cursor.fetchone()
    return Hold(*row) if row else None


class Stream:
    """Receives until `stopping` is set. One turn is one connection: whatever goes wrong raises and ends it."""

    def __init__(self, policy: Policy, held: Hold, stopping: threading.Event) -> None:
        self.policy = policy
        self.held = held
        self.stopping = stopping
        self.row = WalStream.objects.select_related("policy__environment").get(pk=held.stream_id)
        self.name = f"wal {policy}"
        self.source = Server.at(str(policy.settings["database"]))
        self.cluster: Cluster = cluster_at(self.source)
        self.spool = Spool(spool_of(policy), self.cluster.segment_bytes)
        self.archive = Archive(
            self.row, store_of(policy), sealer_of(policy), segment_bytes=self.cluster.segment_bytes, check=held.check
        )
        self.archived = position(self.row.archived_lsn) if self.row.archived_lsn else 0
        self.marks: deque[tuple[datetime, int]] = deque()  # the server's clock, and its position by then
        self.since = self.cluster.now
        self.after_gap = False
        self.reached = 0
        self._polled = self._put = self._moved = time.monotonic()

    def run(self, removed: Segment | None = None) -> None:
        """Receive. removed: the segment an earlier turn wanted and the server does not have any more.

        Raises StepError, Removed, LeaseLost.
        """
        self._same_cluster()
        with closing(self.archive), self.source.connect(autocommit=True) as connection:
            start = self._start(self._slot(connection), removed)
            self.archive.find_beginnings(start)
            self.spool.prepare(start)
            while self._upload(connection):
                pass  # what an earlier receiver left comes first
            start = self._next(start)
            self.spool.prepare(start)
            with self.spool.receiving(self.source, self.name.replace(" ", "-")):
                try:
                    self._receive(connection)
                except StepError:
                    self._was_removed(start)
                    raise
            while self._upload(connection):
                pass

    def _receive(self, connection: psycopg.Connection[Any]) -> None:
        busy = False
        while not self.stopping.wait(0 if busy else TICK_SECONDS):
            ended = self.spool.ended()
            self._poll(connection)
            busy = self._upload(connection)
            if not busy:
                if ended:
                    raise StepError(f"pg_receivewal ended: {self.spool.last_words()}")
                self._notice()
            if len(self.spool.whole()) > MOST_WAITING:
                logger.warning("%s: %d segments wait for the storage", self.name, MOST_WAITING)
                return
        self._put = 0.0
        self._notice()

    def _was_removed(self, start: Segment) -> None:
        """Tell a gap from other reasons to end: then the server names the segment, in whatever language."""
        if start.name(self.spool.size) in self.spool.last_words() and self._restart > start.number:
            raise Removed(start)

    # --- where to begin -------------------------------------------------------------------------------

    def _same_cluster(self) -> None:
        known = self.row.system_identifier
        if known and known != self.cluster.system_identifier:
            raise StepError(
                f"{self.source} is another cluster ({self.cluster.system_identifier}) than the one whose WAL is kept "
                f"here ({known}). Give it a policy of its own, and remove this one when it is not needed any more.",
                permanent=True,
            )
        self.held.write(system_identifier=self.cluster.system_identifier)

    def _slot(self, connection: psycopg.Connection[Any]) -> Segment:
        """See that there is the slot; where the server certainly still has everything from."""
        slot = self.row.slot
        try:
            row = connection.execute(POLL, [slot]).fetchone()
            assert row is not None
            *_, there, restart, status = row
            if there and (restart is None or status == "lost"):
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
                restart = None
            if restart is None:
                made = "SELECT lsn::text FROM pg_create_physical_replication_slot(%s, true)"
                (restart,) = connection.execute(made, [slot]).fetchone() or (None,)
        except psycopg.Error as error:
            words = error.diag.message_primary or str(error)
            raise StepError(f"The replication slot {slot} cannot be made on {self.source}: {words}.") from None
        self._restart = position(str(restart)) // self.spool.size
        return Segment(self.cluster.timeline, self._restart)

    def _start(self, kept: Segment, removed: Segment | None) -> Segment:
        if not self.row.archived_lsn:
            return kept
        wanted = Segment(self.row.timeline or self.cluster.timeline, self.archived // self.spool.size)
        if wanted != removed:
            return wanted
        logger.warning("%s: %s is gone from the server: a gap", self.name, wanted.name(self.spool.size))
        self.after_gap = True
        return kept

    def _next(self, start: Segment) -> Segment:
        done = self.archived // self.spool.size
        return Segment(start.timeline, max(start.number, done))

    # --- what the server says -------------------------------------------------------------------------

    def _poll(self, connection: psycopg.Connection[Any]) -> None:
        now = time.monotonic()
        if now - self._polled < POLL_SECONDS:
            return
        self._polled = now
        try:
            row = connection.execute(POLL, [self.row.slot]).fetchone()
            assert row is not None
            clock, written, at, there, restart, status = row
            if restart is None or status == "lost":
                raise StepError(f"The replication slot {self.row.slot} was {'lost' if there else 'dropped'}.")
            if self.archived > position(restart):
                connection.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)",
                                   [self.row.slot, self.row.archived_lsn])  # fmt: skip
        except psycopg.Error as error:
            raise StepError(f"{self.source} is lost: {' '.join(str(error).split())}") from None
        end = position(at)
        self.marks.append((clock, end_of(position(written))))
        if max(self.reached, self.archived) >= end:
            self._moved = now
        elif now - self._moved > STUCK_SECONDS:
            raise StepError(f"{self.source} is at {at}, but nothing has arrived for {STUCK_SECONDS:g} s.")
        self.held.write(server_lsn=at, lag_bytes=max(0, end - self.archived), seen_at=Now(), problem="")
        if self.marks[0][1] <= self.archived:
            self._say_up_to_date()

    def _say_up_to_date(self) -> None:
        """Nothing new was written, so what is in the storage reaches up to now."""
        segment = Segment(self.row.timeline or self.cluster.timeline, max(0, self.archived - 1) // self.spool.size)
        self._commit(segment, self.archived, 0)

    # --- what has arrived -----------------------------------------------------------------------------

    def _upload(self, connection: psycopg.Connection[Any]) -> bool:
        """Put the next whole segment, if there is one, into the storage; whether there was one."""
        for path in self.spool.histories():
            self.archive.put_history(path)
            path.unlink()
        whole = self.spool.whole()
        if not whole:
            return False
        segment, path = whole[0], self.spool.path(whole[0])
        following = self.spool.path(whole[1]) if len(whole) > 1 else None
        size = self.archive.put_segment(path, segment, following)
        self._commit(segment, (segment.number + 1) * self.spool.size, size)
        path.unlink()
        self.archive.remove_beginnings(but_last=False)
        self._poll(connection)
        return True

    def _notice(self) -> None:
        """See what has arrived of the growing segment, and put it into the storage every few seconds."""
        found = self.spool.received()
        if found is None:
            return
        segment, length = found
        end = segment.number * self.spool.size + length
        now = time.monotonic()
        if end > self.reached:
            self.reached, self._moved = end, now
        if end <= self.archived or not length or now - self._put < BEGINNING_SECONDS:
            return
        self._put = now
        try:
            self.archive.put_beginning(self.spool.partial_path(segment), segment, length)
        except FileNotFoundError:
            return  # it is whole now, under its own name
        self._commit(segment, end, 0)
        self.archive.remove_beginnings(but_last=True)

    def _commit(self, segment: Segment, end: int, size: int) -> None:
        until = None
        while self.marks and self.marks[0][1] <= end:
            until = self.marks.popleft()[0]
        self.archive.commit(Arrived(segment, end, until, size), since=self.since, after_gap=self.after_gap)
        self.after_gap = False
        self.archived = end
        self.row.refresh_from_db(fields=["archived_lsn", "timeline"])


def end_of(written: int) -> int:
    """Where the last byte before a position for writing is: that may lie behind the header of a page not begun yet."""
    within = written % PAGE_BYTES
    return written - within if within <= LONGEST_PAGE_HEADER else written


class Removed(StepError):
    """The server does not have the wanted segment any more."""

    def __init__(self, segment: Segment) -> None:
        super().__init__("The server does not have the next segment any more: there is a gap in the WAL.")
        self.segment = segment


def spool_of(policy: Policy) -> Path:
    """The folder of what has arrived and is not in the storage yet."""
    return Path(settings.DATA_DIR) / "wal" / policy.environment.slug / policy.slug
