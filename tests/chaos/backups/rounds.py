"""The rounds of `bin/chaos backups`: a backup and its restore test, one piece of bad luck, and a judge for each.

Several databases are backed up at the same time, so what happens to the servers happens to others too.
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
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connections

from backups import scratch
from backups.cleaning import remains
from backups.jobs import chain_of, store_of
from backups.models import Backup, BackupRun, Restore
from backups.restore_services import Wish, request_restore
from backups.restores import remove_scratch
from backups.services import request_backup, request_proof
from backups.steps import discard
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.clock.database import database_time
from controlplane.embedded.processes import PROC, directory_of, everybody, look, wait_until
from controlplane.embedded.stack import Stack
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import State
from tests.chaos.backups.bad_luck import BACKUP, BETWEEN, LUCK, PROGRAMS, PROOF, Luck, children
from tests.chaos.backups.judge import Case, Judge
from tests.chaos.backups.world import S3, Lane, Places, Writer, listening, make_lanes, make_passing, moment_of
from tests.chaos.crew import Crew
from tests.chaos.faults import FREEZE_SECONDS, arm, holder

STUCK_SECONDS = 180.0  # for each of a round's two operations
QUIET_SECONDS = 30.0
WORKERS = 4
# How long after an operation has begun, in seconds, it is struck at the latest: while it is still at it.
LONGEST_WAIT = {BACKUP: 0.5, BETWEEN: 0.0, PROOF: 2.0}
# The share of dumps that are restored into a new database beside their own, instead of being tested.
COPIES = 0.2
LONG_AFTER = timedelta(hours=25)


@dataclass
class Round:
    """A backup, its restore test, and what happens meanwhile. since: where the writers were when it began.

    copy: the name of the new database into which it is restored instead of tested, "" for a test.
    """

    number: int
    lane: Lane
    luck: Luck
    since: dict[str, int]
    operation: Operation
    strike_after: float = 0.0
    phase: str = BACKUP
    began: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)
    running_since: float | None = None
    struck: bool = False
    backup: Backup | None = None
    proof: Operation | None = None
    copy: str = ""
    states: list[str] = field(default_factory=list)


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
        self.lanes = make_lanes(arguments.fleets, self.company, self.places)
        self.databases = [lane.database for lane in self.lanes]
        self.judge = Judge(self.company.place, folder, self.places, self.lanes, self.company.password)
        self.writer = Writer(self.company, self.databases)
        self.crew = Crew(folder, children=WORKERS, web=False)
        self.court = ThreadPoolExecutor(1, "judge")
        self.verdicts: list[tuple[Round, Case, Future[list[str]]]] = []
        self.due: list[tuple[float, Callable[[], object]]] = []
        self.going: list[Round] = []
        self.done: list[Round] = []
        self.deck: list[Luck] = []
        self.wrong: Counter[str] = Counter()

    def say(self, text: str, *, always: bool = False) -> None:
        """To the person who watches; the figures go to standard output. always: even if only figures are wanted."""
        if always or not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def complain(self, figure: str, words: str, current: Round | None = None) -> None:
        """Count what must not be, and tell all there is to know of it."""
        self.wrong[figure] += 1
        self.say(f"WRONG {figure}: {words}" + (f"\n{_story(current)}" if current else ""), always=True)

    def later(self, seconds: float, do: Callable[[], object]) -> None:
        """Do it then."""
        self.due.append((time.monotonic() + seconds, do))

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """All rounds; returns the figures."""
        began = time.monotonic()
        self.writer.start()
        try:
            while len(self.done) < self.rounds:
                self._turn()
                time.sleep(0.03)  # the pace of the judge, not a wait for anything
            self._calm_down()
            self._judge_the_end()
            return self._figures() | {"seconds": round(time.monotonic() - began)}
        finally:
            self.court.shutdown(cancel_futures=True)
            self.writer.stopped.set()
            self.writer.join()
            self._do_what_is_due(everything=True)
            self.crew.stop()
            with suppress(Exception):
                scratch.remove_leftovers(lambda operation_id, fence: False)
            self.judge.stop()
            self.s3.stop()

    def _turn(self) -> None:
        self.crew.tend()
        self._do_what_is_due()
        try:
            self._begin_rounds()
            for current in list(self.going):
                self._look_after(current)
        except (OperationalError, InterfaceError, psycopg.OperationalError):
            connections.close_all()  # one of the servers is being restarted, by us

    def _do_what_is_due(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        for one in [one for one in self.due if everything or one[0] <= now]:
            self.due.remove(one)
            one[1]()

    def _begin_rounds(self) -> None:
        busy = {current.lane.database for current in self.going}
        for lane in self.lanes:
            if lane.database in busy or len(self.going) + len(self.done) >= self.rounds:
                continue
            since = self._moments()
            make_passing(self.company, lane.database)
            number = len(self.going) + len(self.done) + 1
            operation = request_backup(self.actor, lane.policy, reason="chaos", cause=BackupRun.Cause.PERSON)
            current = Round(number, lane, LUCK[0], since, operation)
            current.luck = self._draw(current)
            current.strike_after = self.choice.uniform(0.0, LONGEST_WAIT[current.luck.phase])
            self.going.append(current)
            self._arm(current)

    def _moments(self) -> dict[str, int]:
        return {database: moment_of(self.company, database) for database in self.databases}

    def _draw(self, current: Round) -> Luck:
        """Every piece once before any comes again, for the first backup that it can meet."""
        for _ in range(2):
            for place, luck in enumerate(self.deck):
                if luck.fits(current):
                    return self.deck.pop(place)
            self.deck += self.choice.sample(LUCK, len(LUCK))
        raise AssertionError("nothing fits")

    def _arm(self, current: Round) -> None:
        luck = current.luck
        if luck.boundary and luck.phase == current.phase:
            nth = 1 if luck.boundary in ("claimed", "finished") else self.choice.randint(1, 2)
            arm(self.folder / "faults", current.operation.pk, luck.boundary, luck.action, nth)

    def _look_after(self, current: Round) -> None:
        current.operation.refresh_from_db(fields=["state", "worker", "outcome"])
        state = current.operation.state
        if state in (State.RUNNING, State.CANCELLING):
            self._strike(current)
        self._notice_boundary(current)
        if current.operation.is_finished:
            self._next_phase(current)
        elif state == State.NEEDS_OPERATOR or time.monotonic() - current.asked > STUCK_SECONDS:
            self._end(current)

    def _strike(self, current: Round) -> None:
        if current.luck.boundary or current.struck or current.luck.phase != current.phase:
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

    def _next_phase(self, current: Round) -> None:
        if current.phase == BACKUP:
            current.backup = Backup.objects.filter(operation_id=current.operation.pk).first()
            if current.backup is not None:
                if current.luck.phase == BETWEEN and not current.struck:
                    current.struck = current.luck.strike(self, current)
                current.states.append(current.operation.state)
                current.proof = current.operation = self._bring_back(current, current.backup)
                current.phase, current.running_since, current.asked = PROOF, None, time.monotonic()
                self._arm(current)
                return
        self._end(current)

    def _bring_back(self, current: Round, backup: Backup) -> Operation:
        if current.lane.is_cluster or self.choice.random() >= COPIES:
            return request_proof(self.actor, backup, reason="chaos")
        current.copy = f"copy_{backup.pk}"
        wish = Wish(Restore.Target.NEW, database=current.copy)
        return request_restore(self.actor, backup, wish, reason="chaos")

    def restart_postgres(self, number: signal.Signals) -> None:
        """In order, or as a crash."""
        connections.close_all()
        assert self.stack.postgres
        self.stack.postgres.restart(number)

    # --- the judgement of a round -----------------------------------------------------------------

    def _end(self, current: Round) -> None:
        until = self._moments()
        if current.backup is not None:
            current.backup.refresh_from_db()
        current.states.append(current.operation.state)
        self.going.remove(current)
        self.done.append(current)
        self._check_states(current)
        backup = current.backup
        if backup is not None and backup.is_whole and not self._is_damaged(current.lane, backup):
            keys = [one.key for one in chain_of(backup)]
            case = Case(backup.pk, current.lane, keys, current.since, until)
            self.verdicts.append((current, case, self.court.submit(self.judge.problems, case)))
            if current.copy and current.operation.state == State.SUCCEEDED:
                verdict = self.court.submit(self.judge.problems_of_copy, case, self.company, current.copy)
                self.verdicts.append((current, case, verdict))
        found = (backup.verdict or current.copy or "untested") if backup else "no backup"
        self.say(
            f"{len(self.done):4} {current.lane.database} {'/'.join(current.states):20} {found:9}"
            f" {time.monotonic() - current.began:5.1f} s  {current.luck.name}"
            f"{'' if current.struck else ' (met nothing)'}  {current.operation.outcome[:160]}"
        )

    def _is_damaged(self, lane: Lane, backup: Backup) -> bool:
        return any(one.pk in lane.damaged for one in chain_of(backup))

    def _check_states(self, current: Round) -> None:
        backup = current.backup
        if not current.operation.is_finished:
            words = f"{current.operation} is {current.operation.state}: {current.operation.outcome}"
            self.complain("stuck", f"{words}\n{_what_is_at_it(current.operation)}", current)
        if backup is None:
            if current.states[0] == State.SUCCEEDED:
                self.complain("lost", f"{current.operation} succeeded and is not in the catalog", current)
            return
        damaged = self._is_damaged(current.lane, backup)
        if current.copy:
            if damaged and current.states[-1] == State.SUCCEEDED:
                self.complain("false_green", f"{backup} is damaged, and was restored", current)
            return
        if damaged and backup.verdict == Backup.Verdict.PROVEN:
            self.complain("false_green", f"{backup} is damaged, and proven", current)
        if current.states[-1] == State.SUCCEEDED and backup.verdict != Backup.Verdict.PROVEN:
            self.complain("lost", f"{current.operation} succeeded, and {backup} is not proven", current)
        if not damaged and backup.verdict == Backup.Verdict.FAILED and current.luck.name != "cut what was fetched":
            self.complain("false_red", f"{backup} is said not to restore: {backup.verdict_words}", current)

    # --- the judgement of the run -----------------------------------------------------------------

    def _calm_down(self) -> None:
        """No more bad luck; everybody who was frozen goes on, and what is left over is swept away once."""
        self.s3.proxy.reset()
        while self.due:
            self._do_what_is_due()
            self.crew.tend()
            time.sleep(0.03)
        assert listening(self.s3)
        wait_until(lambda: not self._programs(), QUIET_SECONDS)
        remove_scratch()
        later = database_time() + LONG_AFTER
        for lane in self.lanes:
            store = store_of(lane.policy)
            assert store.problem() == ""  # the next look removes the probe of a worker that was killed while it looked
            for key in remains(store, lane.policy.prefix, later):
                discard(store, [key])

    def _judge_the_end(self) -> None:
        for current, case, verdict in self.verdicts:
            if problems := verdict.result():
                self.complain("false_green", f"backup {case.number}: {'; '.join(problems)}", current)
        kept = Backup.objects.filter(state=Backup.State.AVAILABLE).order_by("pk")
        lanes = {lane.policy.pk: lane for lane in self.lanes}
        for backup in kept:
            lane = lanes[backup.policy_id or 0]
            if not self._is_damaged(lane, backup) and (changed := self.judge.changed(lane, backup.key)):
                self.complain("lost", f"{backup}: {'; '.join(changed)}")
        for words in self._orphans({backup.key for backup in kept}):
            self.complain("orphans", words)

    def _orphans(self, kept: set[str]) -> list[str]:
        left = [f"object {name}" for name in self.places.everything() if f"{name.rpartition('/')[0]}/" not in kept]
        left += [f"upload of {key}" for key in self.s3.uploads()]
        left += [f"scratch {home}" for home, _, _ in scratch.found(scratch.place())]
        left += [f"temporary {path}" for path in (self.folder / "tmp").glob("cp-*")]
        left += [f"process {one}" for one in self._programs()]
        with closing(psycopg.connect(self.company.url, autocommit=True)) as connection:
            for what, query in _LEFT.items():
                left += [f"{what} {name}" for (name,) in connection.execute(query.encode())]
        return left

    def _programs(self) -> list[str]:
        """PostgreSQL's programs that still run for a worker of ours."""
        running = []
        for process in everybody():
            if process.name in PROGRAMS or process.name in ("initdb", "pg_verifybackup"):
                with suppress(OSError):
                    environment = (PROC / str(process.pid) / "environ").read_bytes().split(b"\0")
                    ours = (f"PGPORT={self.company.port}".encode(), f"PGHOST={self.folder}".encode())
                    if any(one.startswith(ours) for one in environment) or _works_below(process.pid, self.folder):
                        running.append(f"{process.name} {process.pid}")
        return running

    def _figures(self) -> dict[str, Any]:
        names = ("false_green", "lost", "orphans", "stuck", "false_red")
        return {
            "rounds": len(self.done),
            **{name: self.wrong[name] for name in names},
            "struck": sum(one.struck for one in self.done),
            "backups": sum(one.backup is not None for one in self.done),
            "judged": len(self.verdicts),
            "copies": sum(bool(one.copy) for one in self.done),
            "proven": sum(one.backup is not None and one.backup.verdict == "proven" for one in self.done),
            "damaged": sum(len(lane.damaged) for lane in self.lanes),
            "faults": dict(sorted(Counter(one.luck.name for one in self.done if one.struck).items())),
        }


_LEFT = {
    "replication slot": "SELECT slot_name FROM pg_replication_slots",
    "database": r"SELECT datname FROM pg_database WHERE datname ~ '_(new|old)_\d+$|^copy_'",
    "connection": "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'controlplane'",
}


def _works_below(pid: int, folder: Path) -> bool:
    directory = directory_of(pid)
    return directory is not None and directory.is_relative_to(folder)


def _what_is_at_it(operation: Operation) -> str:
    """The worker that holds it, and its programs."""
    pid = holder(operation)
    process = look(pid) if pid else None
    programs = " ".join(f"{name}({number})" for number, name in children(pid)) if process else ""
    return f"    held by {operation.worker or 'nobody'}, fence {operation.fence}: {process} {programs}"


def _thaw(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _story(current: Round) -> str:
    """All there is to know of a round."""
    numbers = [one.pk for one in (current.proof, current.operation) if one is not None]
    if current.backup is not None and current.backup.operation_id is not None:
        numbers.append(current.backup.operation_id)
    events = Event.objects.filter(operation__in=numbers).order_by("at", "seq")
    return "\n".join(
        [
            f"    round {current.number}, {current.lane.database}: {current.luck.name}, struck {current.struck}",
            *(f"    {event.at:%H:%M:%S.%f} {event.operation_id} {event.kind:8} {event.text}" for event in events),
        ]
    )
