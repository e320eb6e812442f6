"""Rounds that restore a backup over the database it is of, while a client writes to it.

Whatever the bad luck, the name then stands for one of two databases, and lets its client in: the restored one, which
holds the moment of the backup and what the client wrote to it since, or the old one, which holds all that the client
ever wrote to it. The client tells them apart, and looks into the new one before it writes to it.
"""

from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from backups.models import Backup, BackupRun, Restore
from backups.restore_services import Wish, request_restore
from backups.services import request_backup
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State, StepState
from tests.chaos.backups.bad_luck import BACKUP
from tests.chaos.backups.world import OVER, Lane

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos, Round

COMES_BACK_SECONDS = 10.0


def begin(chaos: "Chaos", lane: Lane) -> tuple[str, Operation]:
    """A backup."""
    return BACKUP, request_backup(chaos.actor, lane.policy, reason="chaos", cause=BackupRun.Cause.PERSON)


def go_on(chaos: "Chaos", current: "Round") -> Operation | None:
    """Over the database that the client writes to."""
    client = current.lane.client
    if current.backup is None or client is None:
        return None
    current.replaced, current.written = bearer(current.lane), client.acknowledged
    wish = Wish(Restore.Target.EXISTING, database=current.lane.database)
    return request_restore(chaos.actor, current.backup, wish, reason="chaos")


def bearer(lane: Lane) -> int:
    """The oid of the database that has its name now; 0 for none."""
    with closing(psycopg.connect(lane.server.url, autocommit=True, connect_timeout=5)) as connection:
        query = "SELECT oid::bigint FROM pg_database WHERE datname = %s"
        row = connection.execute(query, [lane.database]).fetchone()
    return int(row[0]) if row else 0


def check(chaos: "Chaos", current: "Round", until: dict[str, int]) -> None:
    """Which one has the name, and whether it is whole."""
    if current.phase != OVER:
        return
    now = check_bearer(chaos, current.lane, current)
    if now and now == current.replaced and current.states[-1] == State.SUCCEEDED:
        chaos.complain("false_green", f"{current.operation} succeeded and replaced nothing", current)
    if now and now != current.replaced and current.backup is not None:
        _check_restored(chaos, current, current.backup, now)
    _check_safety(chaos, current, until)


def check_bearer(chaos: "Chaos", lane: Lane, current: "Round | None" = None) -> int:
    """That there is one, that it lets its client in, and that nothing of what the client wrote to it is gone."""
    client, now = lane.client, bearer(lane)
    assert client is not None
    if not now:
        chaos.complain("lost", f"there is no {lane.database} any more", current)
    elif not client.comes_in(now, COMES_BACK_SECONDS):
        chaos.complain("lost", f"{lane.database} lets nobody in: {client.refusal}", current)
    elif words := client.differences(now):
        chaos.complain("lost", f"{lane.database} is not what was written to it: {'; '.join(words)}", current)
    else:
        return now
    return 0


def _check_restored(chaos: "Chaos", current: "Round", backup: Backup, now: int) -> None:
    """As it was when the client came in, against what the judge finds in the same backup."""
    assert current.lane.client is not None
    arrival = current.lane.client.arrivals[now]
    if arrival.wrong:
        chaos.complain("false_green", f"{backup} came back as no moment: {'; '.join(arrival.wrong)}", current)
    case = next((case for _, case, _ in chaos.verdicts if case.number == backup.pk), None)
    if case is not None:
        verdict = chaos.court.submit(chaos.judge.differs, case.number, arrival.numbers)
        chaos.verdicts.append((current, case, verdict))


def _check_safety(chaos: "Chaos", current: "Round", until: dict[str, int]) -> None:
    """What was there before is in a backup that is held, if the restore came so far as to make it."""
    taken = Step.objects.filter(operation=current.operation, key__endswith="-take", state=StepState.SUCCEEDED)
    safety = Backup.objects.filter(operation_id=current.operation.pk).first()
    if safety is None:
        if taken.exists() and current.operation.is_finished:  # it is entered when the operation ends
            chaos.complain("lost", f"the safety backup of {current.operation} is not in the catalog", current)
        return
    if not safety.hold_reason or not safety.is_whole:
        chaos.complain("lost", f"{safety}, taken for safety, is not held or not there", current)
    since = current.since | {current.lane.database: current.written}
    chaos.try_backup(current, safety, since, until)
