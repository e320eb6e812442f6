"""The rounds of `bin/chaos backups`: a backup, what is done with it, one piece of bad luck, and a judge for each.

Several databases are backed up and restored at the same time, so what happens to the servers happens to others too.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connections

from backups import scratch
from backups.jobs import chain_of
from backups.models import Backup
from backups.services import BACKUP as KIND_BACKUP
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.embedded.postgres import Postgres
from controlplane.embedded.stack import COMPANY, Stack
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from tests.chaos.backups import archive, ending, moments, over, proofs
from tests.chaos.backups.bad_luck import BACKUP, BETWEEN, LUCK, WAL, Grip, Luck
from tests.chaos.backups.judge import Case, Judge
from tests.chaos.backups.receivers import RECEIVERS
from tests.chaos.backups.story import story, what_is_at_it
from tests.chaos.backups.world import MOMENT, OVER, PROOF, S3, Lane, Places, listening, make_lanes
from tests.chaos.backups.writers import Client, Writer, moment_of
from tests.chaos.crew import Crew
from tests.chaos.faults import FREEZE_SECONDS, arm

# For each of a round's two operations: since it was asked for, or since another worker took it over, for any other
# round's bad luck may take its worker, again and again. In all it may take LONGEST_SECONDS.
STUCK_SECONDS, LONGEST_SECONDS = 180.0, 600.0
WORKERS = 4
# How long after an operation has begun, in seconds, it is struck at the latest: while it is still at it.
LONGEST_WAIT = {BACKUP: 0.5, BETWEEN: 0.0, PROOF: 2.0, OVER: 4.0, MOMENT: 2.0, WAL: 2.0}
# How many times an operation comes to a boundary, at most: once for each of its steps.
STEPS = {BACKUP: 2, PROOF: 2, OVER: 5, MOMENT: 1}


@dataclass
class Round:
    """A backup, what is done with it, and what happens meanwhile. since: where the writers were when it began.

    copy: the new database into which it is restored, "" for a test. replaced: the database (oid) that had the name
    before; written: what its client had written to it by then. grip: on the database that is to be replaced.
    """

    number: int
    lane: Lane
    luck: Luck
    since: dict[str, int]
    operation: Operation
    phase: str
    strike_after: float = 0.0
    began: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)
    worker: str = ""
    taken_over: float = 0.0
    running_since: float | None = None
    struck: bool = False
    backup: Backup | None = None
    copy: str = ""
    replaced: int = 0
    written: int = 0
    grip: Grip | None = None
    operations: list[int] = field(default_factory=list)
    states: list[str] = field(default_factory=list)


class Way(Protocol):
    """How the backups of a lane are brought back: a module for each."""

    def begin(self, chaos: "Chaos", lane: Lane) -> tuple[str, Operation]:
        """The first operation of a round, and what it is."""

    def go_on(self, chaos: "Chaos", current: Round) -> Operation | None:
        """The operation that follows on the one that has ended; None when the round is over. Raises NotYet."""

    def check(self, chaos: "Chaos", current: Round, until: dict[str, int]) -> None:
        """Judge what has become of it."""


WAYS: dict[str, Way] = {PROOF: proofs, OVER: over, MOMENT: moments}


class Chaos:
    """One run."""

    def __init__(self, stack: Stack, folder: Path, arguments: argparse.Namespace) -> None:
        assert stack.company is not None
        self.stack, self.folder, self.company = stack, folder, stack.company
        self.rounds: int = arguments.rounds
        self.quiet: bool = arguments.json
        seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
        self.choice = random.Random(seed)
        self.say(f"seed {seed}", always=True)
        (folder / "faults").mkdir()
        call_command("migrate", verbosity=0)
        person = Person.objects.create(username="chaos", first_name="Chaos")
        Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
        self.actor = Actor(person)
        self.s3 = S3(folder)
        assert listening(self.s3)
        self.places = Places(folder, self.s3)
        self.till = Postgres(
            self.company.place, password=self.company.password, port=None, log=folder / "logs" / "till.log",
            name="till", more=COMPANY,
        )  # fmt: skip
        self.till.start()
        self.lanes = make_lanes(arguments.fleets, self.company, self.till, self.places)
        self.judge = Judge(self.company.place, folder, self.places, self.lanes, self.company.password)
        self.clients = list(dict.fromkeys(lane.client for lane in self.lanes if lane.client is not None))
        self.writer = Writer(self.company, [lane.database for lane in self.lanes if lane.client is None])
        self.crew = Crew(folder, children=WORKERS, web=False, receiver=True)
        self.court = ThreadPoolExecutor(1, "judge")
        self.verdicts: list[tuple[Round, Case, Future[list[str]]]] = []
        self.due: list[tuple[float, Callable[[], object]]] = []
        self.going: list[Round] = []
        self.done: list[Round] = []
        self.deck: list[Luck] = []
        self.wrong: Counter[str] = Counter()
        self.unreached: list[Round] = []  # a moment that was promised, and did not come back
        self.slots_dropped: list[float] = []  # when

    def say(self, text: str, *, always: bool = False) -> None:
        """To the person who watches; the figures go to standard output. always: even if only figures are wanted."""
        if always or not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def complain(self, figure: str, words: str, current: Round | None = None) -> None:
        """Count what must not be, and tell all there is to know of it."""
        self.wrong[figure] += 1
        self.say(f"WRONG {figure}: {words}" + (f"\n{story(current)}" if current else ""), always=True)

    def later(self, seconds: float, do: Callable[[], object]) -> None:
        """Do it then."""
        self.due.append((time.monotonic() + seconds, do))

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """All rounds; returns the figures."""
        began = time.monotonic()
        threads: list[Writer | Client] = [self.writer, *self.clients]
        for thread in threads:
            thread.start()
        try:
            archive.watch(self)
            while len(self.done) < self.rounds:
                self.turn()
                time.sleep(0.03)  # the pace of the judge, not a wait for anything
            ending.calm_down(self)
            ending.judge_the_end(self)
            return ending.figures(self) | {"seconds": round(time.monotonic() - began)}
        finally:
            self.court.shutdown(cancel_futures=True)
            for thread in threads:
                thread.stopped.set()
                thread.join()
            self.do_what_is_due(everything=True)
            self.crew.stop()
            with suppress(Exception):
                scratch.remove_leftovers(lambda operation_id, fence: False)
            self.judge.stop()
            self.till.stop()
            self.s3.stop()

    def turn(self) -> None:
        """Look after everything once."""
        self.crew.tend()
        self.do_what_is_due()
        try:
            self._begin_rounds()
            for current in list(self.going):
                self._look_after(current)
        except (OperationalError, InterfaceError, psycopg.OperationalError):
            connections.close_all()  # one of the servers is being restarted, by us

    def do_what_is_due(self, *, everything: bool = False) -> None:
        """What was left for later."""
        now = time.monotonic()
        for one in [one for one in self.due if everything or one[0] <= now]:
            self.due.remove(one)
            one[1]()

    def _begin_rounds(self) -> None:
        busy = {id(current.lane) for current in self.going}
        for lane in self.lanes:
            if id(lane) in busy or len(self.going) + len(self.done) >= self.rounds:
                continue
            since = self.moments()
            luck = self._draw(lane)
            if luck is None:
                continue
            number = len(self.going) + len(self.done) + 1
            try:
                phase, operation = WAYS[lane.way].begin(self, lane)
            except BaseException:
                self.deck.append(luck)  # a server is away: it is for the next one
                raise
            current = Round(number, lane, luck, since, operation, phase)
            current.strike_after = 0.0 if luck.waits else self.choice.uniform(0.0, LONGEST_WAIT[luck.phase])
            current.operations.append(operation.pk)
            self.going.append(current)
            self._arm(current)

    def moments(self) -> dict[str, int]:
        """Where the writers are."""
        return {lane.database: lane.client.acknowledged if lane.client else moment_of(lane.server, lane.database)
                for lane in self.lanes}  # fmt: skip

    def _draw(self, lane: Lane) -> Luck | None:
        """Every piece once before any comes again; None when those that are left are all for others."""
        if not self.deck:
            possible = [luck for luck in LUCK + RECEIVERS if any(map(luck.fits, self.lanes))]
            self.deck = self.choice.sample(possible, len(possible))
        place = next((place for place, luck in enumerate(self.deck) if luck.fits(lane)), None)
        return None if place is None else self.deck.pop(place)

    def _arm(self, current: Round) -> None:
        luck = current.luck
        if luck.boundary and luck.phase == current.phase:
            nth = 1 if luck.boundary in ("claimed", "finished") else self.choice.randint(1, STEPS[luck.phase])
            arm(self.folder / "faults", current.operation.pk, luck.boundary, luck.action, nth)

    def _look_after(self, current: Round) -> None:
        current.operation.refresh_from_db(fields=["state", "worker", "outcome"])
        state = current.operation.state
        if state in (State.RUNNING, State.CANCELLING) or current.luck.phase == WAL:
            self._strike(current)
        self._notice_boundary(current)
        if state == State.NEEDS_OPERATOR or _is_stuck(current):
            self._end(current)
        elif current.operation.is_finished:
            self._follow(current)

    def _strike(self, current: Round) -> None:
        if current.luck.boundary or current.struck or current.luck.phase not in (current.phase, WAL):
            return
        if current.running_since is None:
            current.running_since = time.monotonic()
        if time.monotonic() - current.running_since >= current.strike_after:
            current.struck = current.luck.strike(self, current)

    def _notice_boundary(self, current: Round) -> None:
        if not current.struck and current.luck.boundary:
            with suppress(FileNotFoundError):
                struck = json.loads((self.folder / "faults" / f"{current.operation.pk}.struck").read_text())
                current.struck = True
                if struck["action"] == "freeze":
                    self.later(FREEZE_SECONDS, lambda: _thaw(struck["pid"]))

    def _follow(self, current: Round) -> None:
        if current.phase == BACKUP:
            current.backup = Backup.objects.filter(operation_id=current.operation.pk).first()
            try:
                following = WAYS[current.lane.way].go_on(self, current)
            except moments.NotYet:
                return
            if following is not None:
                current.states.append(current.operation.state)
                current.operation = following
                current.operations.append(following.pk)
                current.phase = BACKUP if following.kind == KIND_BACKUP else current.lane.way
                current.running_since, current.asked = None, time.monotonic()
                self._arm(current)
                return
        self._end(current)

    def restart_postgres(self, number: signal.Signals) -> None:
        """In order, or as a crash."""
        connections.close_all()
        assert self.stack.postgres
        self.stack.postgres.restart(number)

    # --- the judgement of a round -----------------------------------------------------------------

    def _end(self, current: Round) -> None:
        until = self.moments() | {lane.database: lane.client.last for lane in self.lanes if lane.client is not None}
        backup = current.backup
        if backup is not None:
            backup.refresh_from_db()
        if current.grip is not None:
            current.grip.release()
        current.states.append(current.operation.state)
        self.going.remove(current)
        self.done.append(current)
        if not current.operation.is_finished:
            words = f"{current.operation} is {current.operation.state}: {current.operation.outcome}"
            self.complain("stuck", f"{words}\n{what_is_at_it(current.operation)}", current)
        if backup is None and current.phase == BACKUP and current.states[0] == State.SUCCEEDED:
            self.complain("lost", f"{current.operation} succeeded and is not in the catalog", current)
        if backup is not None:
            self.try_backup(current, backup, current.since, until)
        try:
            WAYS[current.lane.way].check(self, current, until)
        except psycopg.Error as error:
            self.complain("lost", f"it cannot be looked at: {error}", current)
        found = (backup and backup.verdict) or current.copy or current.phase
        self.say(
            f"{len(self.done):4} {current.lane.database} {'/'.join(current.states):20} {found:9}"
            f" {time.monotonic() - current.began:5.1f} s  {current.luck.name}"
            f"{'' if current.struck else ' (met nothing)'}  {current.operation.outcome[:160]}"
        )

    def try_backup(self, current: Round, backup: Backup, since: dict[str, int], until: dict[str, int]) -> Case | None:
        """Have the judge restore it in its own time; None where it is known to be damaged, by us."""
        if not backup.is_whole or self.is_damaged(current.lane, backup):
            return None
        case = Case(backup.pk, current.lane, [one.key for one in chain_of(backup)], since, until)
        self.verdicts.append((current, case, self.court.submit(self.judge.problems, case)))
        return case

    def is_damaged(self, lane: Lane, backup: Backup) -> bool:
        """By us, or what it builds on."""
        return any(one.pk in lane.damaged for one in chain_of(backup))


def _is_stuck(current: Round) -> bool:
    now = time.monotonic()
    if current.operation.worker != current.worker:
        current.worker, current.taken_over = current.operation.worker, now
    return now - max(current.asked, current.taken_over) > STUCK_SECONDS or now - current.asked > LONGEST_SECONDS


def _thaw(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
