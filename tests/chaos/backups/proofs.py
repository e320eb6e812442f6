"""Rounds of a backup and its restore test, or of a copy of it: restored into a new database beside its own."""

from typing import TYPE_CHECKING

from backups.models import Backup, BackupRun, Restore
from backups.restore_services import Wish, request_restore
from backups.services import request_backup, request_proof
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.chaos.backups.bad_luck import BACKUP, BETWEEN
from tests.chaos.backups.judge import Case
from tests.chaos.backups.world import Lane
from tests.chaos.backups.writers import make_passing

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos, Round

# The share of dumps that are restored into a new database beside their own, instead of being tested.
COPIES = 0.2


def begin(chaos: "Chaos", lane: Lane) -> tuple[str, Operation]:
    """A backup, of one table more."""
    make_passing(lane.server, lane.database)
    return BACKUP, request_backup(chaos.actor, lane.policy, reason="chaos", cause=BackupRun.Cause.PERSON)


def go_on(chaos: "Chaos", current: "Round") -> Operation | None:
    """Damage it, perhaps; then a test or a copy."""
    backup = current.backup
    if backup is None:
        return None
    if current.luck.phase == BETWEEN and not current.struck:
        current.struck = current.luck.strike(chaos, current)
    if current.lane.is_cluster or chaos.choice.random() >= COPIES:
        return request_proof(chaos.actor, backup, reason="chaos")
    current.copy = f"copy_{backup.pk}"
    wish = Wish(Restore.Target.NEW, database=current.copy)
    return request_restore(chaos.actor, backup, wish, reason="chaos")


def check(chaos: "Chaos", current: "Round", until: dict[str, int]) -> None:
    """Whether its verdict is what is true of it."""
    backup, succeeded = current.backup, current.states[-1] == State.SUCCEEDED
    if backup is None:
        return
    damaged = chaos.is_damaged(current.lane, backup)
    if current.copy:
        if damaged and succeeded:
            chaos.complain("false_green", f"{backup} is damaged, and was restored", current)
        elif succeeded:
            case = Case(backup.pk, current.lane, [], current.since, until)
            verdict = chaos.court.submit(chaos.judge.problems_of_copy, case, current.lane.server, current.copy)
            chaos.verdicts.append((current, case, verdict))
        return
    if damaged and backup.verdict == Backup.Verdict.PROVEN:
        chaos.complain("false_green", f"{backup} is damaged, and proven", current)
    if succeeded and backup.verdict != Backup.Verdict.PROVEN:
        chaos.complain("lost", f"{current.operation} succeeded, and {backup} is not proven", current)
    if not damaged and backup.verdict == Backup.Verdict.FAILED and current.luck.name != "cut what was fetched":
        chaos.complain("false_red", f"{backup} is said not to restore: {backup.verdict_words}", current)
