"""The judge of the WAL in the storage: names as they are there, and a replay by hand of all there is.

1. What the server may forget is in the storage before: asked every few seconds, and told by names alone.
2. When all is calm, the archive catches up with the last change.
3. There is one range, unless we took the slot away; and from the first base that leads into each range, PostgreSQL
   replays it to its end, and then holds each change that was committed by the time that the catalog says.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from backups.jobs import chain_of
from backups.models import Backup, WalRange, WalStream
from backups.window import Window, recoverable
from controlplane.embedded.processes import wait_until
from tests.chaos.backups.judge import UNREADABLE, in_words
from tests.chaos.backups.receivers import FIRST
from tests.chaos.backups.world import BUCKET, MOMENT, Lane
from tests.chaos.backups.writers import look, numbers_in

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos

SEGMENT_BYTES = 16 * 1024 * 1024
STORED = re.compile(r"[0-9A-F]{8}/([0-9A-F]{24})(?:\.([0-9a-f]{8})\.partial)?\.zst(?:\.age)?")
WATCH_SECONDS = 3.0
EXCUSED_SECONDS = 60.0  # a slot that is made anew begins where the server is
CALM_SECONDS = 60.0
LEAVE_SECONDS = 25.0


def lane_of(chaos: "Chaos") -> Lane:
    """The one with a receiver."""
    return next(lane for lane in chaos.lanes if lane.way == MOMENT)


def _stored(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Of each object: the name of its segment, how much of it there is, and its name below the folder."""
    for path in folder.glob("*/*"):
        name = str(path.relative_to(folder))
        if found := STORED.fullmatch(name):
            yield found[1], int(found[2], 16) if found[2] else SEGMENT_BYTES, name


def _folder(chaos: "Chaos", lane: Lane) -> Path:
    return chaos.s3.folder / BUCKET / lane.policy.prefix / "wal"


def _number(name: str) -> int:
    return int(name[8:16], 16) * 256 + int(name[16:], 16)


# --- while it goes on ---------------------------------------------------------------------------------


def watch(chaos: "Chaos") -> None:
    """Call it once; it comes again by itself, as long as there are rounds."""
    lane = lane_of(chaos)
    if len(chaos.done) < chaos.rounds:
        chaos.later(WATCH_SECONDS, lambda: watch(chaos))
    try:
        with closing(psycopg.connect(lane.server.url, autocommit=True, connect_timeout=5)) as connection:
            query = (
                "SELECT (restart_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots WHERE slot_type = 'physical'"
            )
            kept = [at for (at,) in connection.execute(query + " AND NOT temporary") if at is not None]
    except psycopg.OperationalError:
        return
    end = max((_number(name) * SEGMENT_BYTES + length for name, length, _ in _stored(_folder(chaos, lane))), default=0)
    excused = any(time.monotonic() - at < EXCUSED_SECONDS for at in chaos.slots_dropped)
    # Only whole segments are forgotten, those before the one in which the slot is.
    if end and kept and kept[0] // SEGMENT_BYTES * SEGMENT_BYTES > end and not excused:
        chaos.complain("lost", f"the server may forget its WAL up to {kept[0]}, the storage has it up to {end}")


# --- when it is over ----------------------------------------------------------------------------------


def catch_up(chaos: "Chaos") -> None:
    """The last change of all comes into the storage; then the receiver is asked to end."""
    lane = lane_of(chaos)
    assert lane.client is not None
    lane.client.stopped.set()
    lane.client.join()
    last = max((one.ended for one in lane.client.writes if one.ended is not None), default=0.0)
    with closing(psycopg.connect(lane.server.url, autocommit=True)) as connection:
        connection.execute("SELECT pg_switch_wal()")

    def caught_up() -> bool:
        chaos.turn()
        row = WalStream.objects.filter(policy=lane.policy).first()
        return row is not None and row.archived_until is not None and row.archived_until.timestamp() >= last

    if not wait_until(caught_up, CALM_SECONDS):
        row = WalStream.objects.filter(policy=lane.policy).first()
        words = f"up to {row.archived_until}, by {row.receiver or 'nobody'}: {row.problem}" if row else "nothing"
        chaos.complain("stuck", f"the archive does not catch up with {datetime.fromtimestamp(last, UTC)}: {words}")
    for name in [name for name in chaos.crew.commands if name.startswith(FIRST)]:
        chaos.crew.retire(name)

    def alone() -> bool:
        chaos.crew.tend()
        return not chaos.crew.leaving

    wait_until(alone, LEAVE_SECONDS)


def judge_the_archive(chaos: "Chaos") -> None:
    """All of it, to its end."""
    lane = lane_of(chaos)
    windows = recoverable(lane.policy)
    ranges = list(WalRange.objects.filter(stream__policy=lane.policy).order_by("first"))
    if len(ranges) > 1 + len(chaos.slots_dropped):
        words = ", ".join(f"{one.first}-{one.last} since {one.since} until {one.until}" for one in ranges)
        chaos.complain("lost", f"there are gaps in the WAL: {words}")
    bases = Backup.objects.filter(policy=lane.policy, state=Backup.State.AVAILABLE)
    for base in bases:
        if base.pk not in {window.backup for window in windows} and not chaos.slots_dropped:
            chaos.complain("lost", f"no WAL follows on {base}")
    for until in {window.until for window in windows}:
        first = min((one for one in windows if one.until == until), key=lambda one: one.since)
        if wrong := _problems(chaos, lane, first):
            chaos.complain("lost", f"the WAL from backup {first.backup} until {until}: {'; '.join(wrong)}")


def _problems(chaos: "Chaos", lane: Lane, window: Window) -> list[str]:
    assert lane.client is not None
    base = Backup.objects.get(pk=window.backup)
    folder = chaos.judge.place.folder / f"replay-{base.pk}"
    folder.mkdir()
    try:
        _fetch(chaos, lane, folder)
        with chaos.judge.unpacked(lane, [one.key for one in chain_of(base)], f"replayed-{base.pk}") as server:
            signal_file = server.folder / "recovery.signal"
            signal_file.touch()
            chaos.judge.place.own(signal_file)
            server.settings |= {"restore_command": f"cp {folder}/%f %p", "hot_standby": "off"}
            server.start()
            with closing(psycopg.connect(server.url_of(lane.database))) as connection:
                _, wrong = look(connection, lane.database, lane.still)
                until = window.until.timestamp()
                return wrong + lane.client.differences_at(until, numbers_in(connection), at_most=time.time())
    except (KeyError, *UNREADABLE) as error:
        return [in_words(error)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(chaos: "Chaos", lane: Lane, folder: Path) -> None:
    """The longest that there is of each segment, unpacked, and filled up with zeros."""
    best: dict[str, tuple[int, str]] = {}
    for name, length, key in _stored(_folder(chaos, lane)):
        best[name] = max(best.get(name, (0, "")), (length, key))
    chaos.judge.place.own(folder)
    for name, (length, key) in best.items():
        with (folder / name).open("wb") as file, chaos.judge.opened(lane, f"{lane.policy.prefix}wal/{key}") as stored:
            shutil.copyfileobj(stored, file)
            if file.tell() != length:
                raise ValueError(f"{key} has {file.tell()} bytes")
            file.truncate(SEGMENT_BYTES)
        chaos.judge.place.own(folder / name)
