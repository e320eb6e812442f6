"""Rounds that bring the till back as it was at a moment, while the receivers of its WAL have their bad luck.

The catalog promises a window; a moment of it is chosen, its very ends too. What comes back has to hold each change
that its client knew to be committed by then, and none that was not even begun.
"""

import re
import time
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg
from django.db.models.functions import Now

from backups.models import BackupRun, Restore, ScratchDatabase
from backups.restore_services import Wish, request_restore
from backups.services import request_backup
from backups.window import Window, recoverable
from controlplane.operations.errors import Invalid
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import State
from tests.chaos.backups.bad_luck import BACKUP
from tests.chaos.backups.world import MOMENT, Lane
from tests.chaos.backups.writers import Connection, look, numbers_in

if TYPE_CHECKING:
    from tests.chaos.backups.rounds import Chaos, Round

# The shares: of rounds that begin with a base backup, of restores into a new database, of moments at an end.
BASES, NEW_DATABASES, ENDS = 0.25, 0.4, 0.3
BASE_ATTEMPTS = 3
AGAIN_SECONDS = 120.0
# As the log of an operation tells a person.
LOOK_INTO_IT = re.compile(r"psql -h (\S+) -U (\S+) (\S+)$")


class NotYet(Exception):
    """Nothing follows for the moment: ask again."""


def begin(chaos: "Chaos", lane: Lane) -> tuple[str, Operation]:
    """A base backup, now and then and while there is no window; else a restore of what there is."""
    _end_segment(chaos, lane)
    if recoverable(lane.policy) and chaos.choice.random() >= BASES:
        return MOMENT, _restore(chaos, lane, len(chaos.going) + len(chaos.done) + 1)
    return BACKUP, _back_up(chaos, lane)


def _end_segment(chaos: "Chaos", lane: Lane) -> None:
    """So small a database fills none by itself; and without a checkpoint the server forgets none."""
    with (
        suppress(psycopg.OperationalError),
        closing(psycopg.connect(lane.server.url, autocommit=True, connect_timeout=5)) as connection,
    ):
        if chaos.choice.random() < 0.6:
            connection.execute("SELECT pg_switch_wal()")
        if chaos.choice.random() < 0.4:
            connection.execute("CHECKPOINT")


def go_on(chaos: "Chaos", current: "Round") -> Operation | None:
    """As soon as a moment can be restored; a base backup that failed before there is any window is made again."""
    if recoverable(current.lane.policy):
        return _restore(chaos, current.lane, current.number)
    if current.backup is not None:
        raise NotYet
    return _back_up(chaos, current.lane) if len(current.operations) < BASE_ATTEMPTS else None


def _back_up(chaos: "Chaos", lane: Lane) -> Operation:
    return request_backup(chaos.actor, lane.policy, reason="chaos", cause=BackupRun.Cause.PERSON)


def _restore(chaos: "Chaos", lane: Lane, number: int) -> Operation:
    moment = _some_moment(chaos, recoverable(lane.policy))
    if chaos.choice.random() < NEW_DATABASES:
        return _ask_for(chaos, lane, Wish(Restore.Target.NEW, moment, f"moment_{number}"))
    return _ask_for(chaos, lane, Wish(Restore.Target.SCRATCH, moment))


def _some_moment(chaos: "Chaos", windows: list[Window]) -> datetime:
    window = chaos.choice.choice(windows)
    if chaos.choice.random() < ENDS:
        return chaos.choice.choice([window.since, window.until])
    return window.since + (window.until - window.since) * chaos.choice.random()


def _ask_for(chaos: "Chaos", lane: Lane, wish: Wish) -> Operation:
    last = lane.policy.backups.order_by("-pk").first()
    assert last is not None
    try:
        return request_restore(chaos.actor, last, wish, reason="chaos")
    except Invalid as refused:
        raise AssertionError(f"{wish.moment} was promised, and is refused: {refused}") from refused


def check(chaos: "Chaos", current: "Round", until: dict[str, int]) -> None:
    """What came back, against what its client wrote. What did not is asked for again when all is calm."""
    if current.phase != MOMENT:
        if current.backup is not None:
            chaos.complain("stuck", f"{current.backup} is there, but no moment can be restored", current)
        return
    if current.states[-1] != State.SUCCEEDED:
        chaos.unreached.append(current)
    elif words := _differences(chaos, current):
        chaos.complain("false_green", f"{_aim(current.operation).moment} came back as: {'; '.join(words)}", current)


def _aim(operation: Operation) -> Restore:
    return Restore.objects.get(operation=operation)


def _differences(chaos: "Chaos", current: "Round") -> list[str]:
    """Looked at where it was restored to; then it may go: a scratch with the clock, as those that are too old do."""
    aim, lane = _aim(current.operation), current.lane
    if aim.target == Restore.Target.NEW:
        with closing(psycopg.connect(lane.server.url_of(aim.database))) as connection:
            words = _judged(lane, aim, connection)
        with closing(psycopg.connect(lane.server.url, autocommit=True)) as connection:
            connection.execute(f"DROP DATABASE {aim.database} WITH (FORCE)".encode())
        return words
    told = Event.objects.filter(operation=current.operation, text__startswith="look into it").latest("seq").text
    found = LOOK_INTO_IT.search(told)
    assert found, told
    host, user, database = found.groups()
    with closing(psycopg.connect(host=host, user=user, dbname=database)) as connection:
        words = _judged(lane, aim, connection)
    ScratchDatabase.objects.filter(operation=current.operation).update(expires_at=Now())
    return words


def _judged(lane: Lane, aim: Restore, connection: Connection) -> list[str]:
    assert lane.client is not None and aim.moment is not None
    _, wrong = look(connection, lane.database, lane.still)
    return wrong + lane.client.differences_at(aim.moment.timestamp(), numbers_in(connection))


def restore_unreached(chaos: "Chaos") -> None:
    """Only the restore may have had bad luck: without any, each moment that was promised comes back."""
    rounds, chaos.unreached = chaos.unreached, []
    for current in rounds:
        current.operation = _ask_for(chaos, current.lane, Wish(Restore.Target.SCRATCH, _aim(current.operation).moment))
        current.operations.append(current.operation.pk)
    late = time.monotonic() + AGAIN_SECONDS
    for current in rounds:
        while not current.operation.is_finished and time.monotonic() < late:
            chaos.turn()
            current.operation.refresh_from_db()
            time.sleep(0.05)
        current.states.append(current.operation.state)
        if current.operation.state != State.SUCCEEDED:
            words = f"{_aim(current.operation).moment} was promised, and does not come back"
            chaos.complain("false_green", f"{words}: {current.operation.outcome}", current)
        else:
            check(chaos, current, {})
