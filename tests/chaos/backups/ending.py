"""The end of a run: everybody comes to rest, what is left is swept away once, and the whole is judged."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from backups import scratch
from backups.cleaning import remains
from backups.jobs import store_of
from backups.models import Backup
from backups.restores import remove_scratch
from backups.steps import discard
from backups.wal import slot_of
from backups.wal_spool import PROGRAM
from controlplane.clock.database import database_time
from controlplane.embedded.processes import PROC, directory_of, everybody, wait_until
from controlplane.operations.states import State
from tests.chaos.backups.archive import catch_up, judge_the_archive, lane_of
from tests.chaos.backups.bad_luck import PROGRAMS
from tests.chaos.backups.moments import restore_unreached
from tests.chaos.backups.over import check_bearer
from tests.chaos.backups.world import MOMENT, OVER, listening

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos

QUIET_SECONDS = 30.0
LONG_AFTER = timedelta(hours=25)
LEFT = {
    "replication slot": "SELECT slot_name FROM pg_replication_slots",
    "database": r"SELECT datname FROM pg_database WHERE datname ~ '_(new|old)_\d+$|^(copy|moment)_'",
    "connection": "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'controlplane'",
}


def calm_down(chaos: "Chaos") -> None:
    """No more bad luck; everybody who was frozen goes on, and what is left over is swept away once."""
    chaos.s3.proxy.reset()
    chaos.do_what_is_due(everything=True)
    assert listening(chaos.s3)
    restore_unreached(chaos)
    catch_up(chaos)
    wait_until(lambda: not list(_programs(chaos)), QUIET_SECONDS)
    remove_scratch()
    later = database_time() + LONG_AFTER
    for lane in chaos.lanes:
        store = store_of(lane.policy)
        assert store.problem() == ""  # the next look removes the probe of a worker that was killed while it looked
        for key in remains(store, lane.policy.prefix, later):
            discard(store, [key])


def judge_the_end(chaos: "Chaos") -> None:
    """What was put off, and what only shows when all is over."""
    for current, case, verdict in chaos.verdicts:
        if problems := verdict.result():
            chaos.complain("false_green", f"backup {case.number}: {'; '.join(problems)}", current)
    kept = Backup.objects.filter(state=Backup.State.AVAILABLE).order_by("pk")
    lanes = {lane.policy.pk: lane for lane in chaos.lanes}
    for backup in kept:
        lane = lanes[backup.policy_id or 0]
        if not chaos.is_damaged(lane, backup) and (changed := chaos.judge.changed(lane, backup.key)):
            chaos.complain("lost", f"{backup}: {'; '.join(changed)}")
    for lane in chaos.lanes:
        if lane.way == OVER:
            check_bearer(chaos, lane)
    judge_the_archive(chaos)
    for words in _orphans(chaos, {backup.key for backup in kept}):
        chaos.complain("orphans", words)


def _orphans(chaos: "Chaos", kept: set[str]) -> Iterator[str]:
    wal = lane_of(chaos).policy.prefix + "wal/"
    for name in chaos.places.everything():
        if f"{name.rpartition('/')[0]}/" not in kept and not name.startswith(wal):
            yield f"object {name}"
    yield from (f"upload of {key}" for key in chaos.s3.uploads())
    yield from (f"scratch {home}" for home, _, _ in scratch.found(scratch.place()))
    yield from (f"temporary {path}" for path in (chaos.folder / "tmp").glob("cp-*"))
    yield from (f"process {one}" for one in _programs(chaos))
    expected = {("replication slot", slot_of(lane_of(chaos).policy))}
    for server in (chaos.company, chaos.till):
        with closing(psycopg.connect(server.url, autocommit=True)) as connection:
            for what, query in LEFT.items():
                found = {(what, str(name)) for (name,) in connection.execute(query.encode())}
                yield from (f"{what} {name}" for what, name in found - expected)


def _programs(chaos: "Chaos") -> Iterator[str]:
    """PostgreSQL's programs that still run for a worker or a receiver of ours."""
    ours = tuple(f"PGPORT={server.port}".encode() for server in (chaos.company, chaos.till))
    for process in everybody():
        if process.name in (*PROGRAMS, PROGRAM, "initdb", "pg_verifybackup"):
            with suppress(OSError):
                environment = (PROC / str(process.pid) / "environ").read_bytes().split(b"\0")
                host = f"PGHOST={chaos.folder}".encode()
                if any(one in ours or one.startswith(host) for one in environment) or _works_below(
                    process.pid, chaos.folder
                ):
                    yield f"{process.name} {process.pid}"


def _works_below(pid: int, folder: Path) -> bool:
    directory = directory_of(pid)
    return directory is not None and directory.is_relative_to(folder)


def figures(chaos: "Chaos") -> dict[str, Any]:
    """For a person and for the test."""
    names = ("false_green", "lost", "orphans", "stuck", "false_red")
    came_to = Counter(one.phase for one in chaos.done)
    came_back = Counter(one.phase for one in chaos.done if one.states[-1] == State.SUCCEEDED)
    return {
        "rounds": len(chaos.done),
        **{name: chaos.wrong[name] for name in names},
        "struck": sum(one.struck for one in chaos.done),
        "backups": sum(one.backup is not None for one in chaos.done),
        "judged": len(chaos.verdicts),
        "copies": sum(bool(one.copy) for one in chaos.done),
        "over": came_to[OVER],
        "replaced": came_back[OVER],
        "moments": came_to[MOMENT],
        "reached": came_back[MOMENT],
        "proven": sum(one.backup is not None and one.backup.verdict == "proven" for one in chaos.done),
        "damaged": sum(len(lane.damaged) for lane in chaos.lanes),
        "faults": dict(sorted(Counter(one.luck.name for one in chaos.done if one.struck).items())),
    }
