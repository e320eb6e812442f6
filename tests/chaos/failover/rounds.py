"""The rounds: a pair of sites fails over or comes home, with one piece of bad luck, and its customers are the judges.

The operator in here is honest: whoever is asked says what is true. A proof that a dead server cannot give is accepted
in words; one that a cut wire hides is tried again once the wire is mended.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import OperationalError, connection, connections

from backups.disaster.databases.postgres_fence import why_open
from backups.disaster.services import request_failback, request_failover
from backups.disaster.traffic.local import address_of
from backups.disaster.traffic.names import entry_of
from backups.models import Recovery
from backups.programs import Server
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.embedded.place import prepare_place
from controlplane.embedded.stack import Stack
from controlplane.operations import transitions
from controlplane.operations.boundaries import BOUNDARIES
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import Answer, State
from tests.chaos.crew import Crew
from tests.chaos.failover import sites
from tests.chaos.failover.customers import Acknowledged, Customer, two_primaries
from tests.chaos.faults import FREEZE_SECONDS, arm, holder, thaw_later

STUCK_SECONDS = 120.0
ACTIONS = ("kill child", "kill parent", "freeze")
SWITCH = Path("controlplane/embedded/name_switch.py")
CUT_SECONDS = (0.5, 6.0)


@dataclass(frozen=True)
class Luck:
    """One piece of it. strike: done once the operation runs; mend: undone after some seconds, or at the end."""

    name: str
    strike: Callable[["Chaos", "Round"], None] = lambda chaos, one: None
    mend: Callable[["Chaos", "Round"], None] = lambda chaos, one: one.pair.mend()
    boundary: str = ""
    action: str = ""
    until_the_end: bool = False


@dataclass
class Round:
    """One way, there or home. dead: the old site's server was killed for good, as far as anybody knows."""

    pair: sites.Pair
    kind: str
    operation: Operation
    luck: Luck
    strike_at: float
    mend_at: float
    old: str
    new: str
    since: int
    dead: bool = False
    struck: bool = False
    mended: bool = False
    began: float = field(default_factory=time.monotonic)
    ended: bool = False
    wrong: str = ""
    two: int = 0
    lost: int = 0


def _old_server(one: Round) -> Any:
    return one.pair.server(one.old)


def _cut(wire: str) -> Callable[["Chaos", Round], None]:
    def strike(chaos: "Chaos", one: Round) -> None:
        getattr(one.pair, wire).cut()

    return strike


def _kill_old(chaos: "Chaos", one: Round) -> None:
    one.pair.kill(_old_server(one))


def _kill_old_for_good(chaos: "Chaos", one: Round) -> None:
    one.dead = True
    one.pair.kill(_old_server(one))


def _kill_new(chaos: "Chaos", one: Round) -> None:
    one.pair.kill(one.pair.server(one.new))


def _kill_child(chaos: "Chaos", one: Round) -> None:
    if pid := holder(one.operation):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _freeze_child(chaos: "Chaos", one: Round) -> None:
    if pid := holder(one.operation):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            thaw_later(pid, FREEZE_SECONDS)


def _kill_clock(chaos: "Chaos", one: Round) -> None:
    chaos.crew.kill("clock")


LUCK = [
    *(Luck(f"{how} at {boundary}", boundary=boundary, action=how) for boundary in BOUNDARIES for how in ACTIONS),
    *[Luck("the control plane cannot reach home", _cut("to_home"))] * 3,
    *[Luck("the control plane cannot reach the other site", _cut("to_away"))] * 3,
    *[Luck("the sites cannot reach each other", _cut("between"))] * 3,
    *[Luck("the old server is killed and comes back in the middle", _kill_old)] * 4,
    *[Luck("the new server is killed and comes back", _kill_new)] * 2,
    *[Luck("the old server is dead until all is over", _kill_old_for_good, until_the_end=True)] * 3,
    *[Luck("kill child at random", _kill_child)] * 3,
    *[Luck("freeze child at random", _freeze_child)] * 2,
    Luck("kill clock", _kill_clock),
    Luck("nothing"),
]  # fmt: skip


class Chaos:
    """One run."""

    def __init__(self, stack: Stack, folder: Path, arguments: argparse.Namespace) -> None:
        self.stack = stack
        self.folder = folder
        self.rounds: int = arguments.rounds
        self.quiet: bool = arguments.json
        seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
        self.choice = random.Random(seed)
        self.say(f"seed {seed}", always=True)
        (folder / "faults").mkdir()
        call_command("migrate", verbosity=0)
        self.people = [self._person(name, role) for name, role in
                       (("asks", Role.OPERATOR), ("first", Role.APPROVER), ("second", Role.APPROVER))]  # fmt: skip
        self.pairs = sites.make(arguments.fleets, prepare_place(folder), folder)
        self.crew = Crew(folder, web=False)
        switch = [sys.executable, "-I", "-S", str(SWITCH), "--folder", str(folder)]
        self.crew.add("names", switch)
        self.crew.tend()
        self.customers = {
            pair.plan.slug: [Customer(pair, int(address_of(pair.name).rpartition(":")[2]), stubborn)
                             for stubborn in (False, True)]
            for pair in self.pairs
        }  # fmt: skip
        for pair in self.customers.values():
            for customer in pair:
                customer.start()
        self.done: list[Round] = []
        self.going: list[Round] = []
        self.deck: list[Luck] = []
        self.given_up: set[str] = set()

    def say(self, text: str, *, always: bool = False) -> None:
        """To the person who watches; the figures go to standard output."""
        if always or not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def _person(self, name: str, role: Role) -> Actor:
        person = Person.objects.create(username=name, first_name=name.title())
        Grant.objects.create(person=person, scope="*", role=role)
        return Actor(person)

    # --- the run ------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """All rounds; returns the figures."""
        began = time.monotonic()
        try:
            while len(self.done) < self.rounds:
                self.crew.tend()
                try:
                    for pair in self.pairs:
                        pair.tend()
                        if not any(one.pair is pair for one in self.going):
                            self._begin(pair)
                    for one in list(self.going):
                        self._look_after(one)
                except OperationalError:
                    connections.close_all()
                time.sleep(0.05)  # the pace of the judge, not a wait for anything
            return self._figures() | {"seconds": round(time.monotonic() - began)}
        finally:
            for customers in self.customers.values():
                for customer in customers:
                    customer.stop()
            self.crew.stop()
            for pair in self.pairs:
                pair.stop()
                _stop_services(self.folder, pair)

    def _begin(self, pair: sites.Pair) -> None:
        if len(self.going) + len(self.done) >= self.rounds:
            return
        pair.plan.refresh_from_db()
        old, new = pair.plan.serving.slug, pair.plan.waiting.slug
        there = pair.plan.active == "primary"
        try:
            if not _is_quiet(pair, there=there):
                return
            asks = self.people[0]
            operation = (
                request_failover(asks, pair.plan, point="standby", words="red", reason="chaos")
                if there
                else request_failback(asks, pair.plan, words="mended", reason="chaos")
            )
            for person in self.people[1:]:
                transitions.approve(operation.pk, person, operation.plan_digest)
        except (OperationError, StepError, psycopg.Error):
            return  # not yet: it is looked at again in a moment
        luck = self._draw(there=there)
        if luck.boundary:
            arm(self.folder / "faults", operation.pk, luck.boundary, luck.action, self._nth(luck))
        strike_at = time.monotonic() + self.choice.uniform(0.0, 2.5)
        mend_at = strike_at + self.choice.uniform(*CUT_SECONDS)
        since = len(self.customers[pair.plan.slug][0].acknowledged)
        self.going.append(Round(pair, operation.kind, operation, luck, strike_at, mend_at, old, new, since))

    def _nth(self, luck: Luck) -> int:
        return 1 if luck.boundary in ("claimed", "finished") else self.choice.randint(1, 25)

    def _draw(self, *, there: bool) -> Luck:
        """Every card once before any comes again; home nobody comes from a dead site, so that card waits."""
        while True:
            fits = (number for number, luck in enumerate(self.deck) if there or not luck.until_the_end)
            if (number := next(fits, None)) is not None:
                return self.deck.pop(number)
            self.deck += self.choice.sample(LUCK, len(LUCK))

    def _look_after(self, one: Round) -> None:
        one.operation.refresh_from_db()
        now = time.monotonic()
        if not one.struck and not one.luck.boundary and now >= one.strike_at and one.operation.state == State.RUNNING:
            one.struck = True
            one.luck.strike(self, one)
        self._notice_boundary(one)
        if one.struck and not one.mended and not one.luck.until_the_end and now >= one.mend_at:
            one.luck.mend(self, one)
            one.mended = True
        if one.operation.state == State.NEEDS_OPERATOR:
            self._answer(one)
        if one.operation.is_finished or now - one.began > STUCK_SECONDS:
            self._end(one)

    def _notice_boundary(self, one: Round) -> None:
        if not one.struck and one.luck.boundary:
            with suppress(FileNotFoundError):
                struck = json.loads((self.folder / "faults" / f"{one.operation.pk}.struck").read_text())
                one.struck = True
                if struck["action"] == "freeze":
                    thaw_later(struck["pid"], FREEZE_SECONDS)

    def _answer(self, one: Round) -> None:
        """Say what is true: the dead are dead, and what a cut wire hides is looked at again."""
        step = one.operation.steps.filter(state="unknown").first()
        if step is None:
            return
        proof = step.spec.get("risk")
        dead = one.dead and bool(proof)
        if not dead and one.struck and not one.mended:
            return  # somebody is mending it
        answer, words = (Answer.SKIP, "its power is off") if dead else (Answer.RETRY, "it is mended")
        with suppress(OperationError):
            transitions.resolve(one.operation.pk, self.people[0], step.key, answer, words, attempt=step.attempt)

    def _end(self, one: Round) -> None:
        one.luck.mend(self, one)
        self.going.remove(one)
        self.done.append(one)
        one.ended = one.operation.is_finished
        if one.ended:
            self._judge(one)
        self.say(
            f"{len(self.done):4} {one.pair.plan.slug} {one.kind:8} {one.operation.state:14}"
            f" {time.monotonic() - one.began:5.1f} s  {one.luck.name}"
        )
        if one.wrong or one.two or one.lost or not one.ended:
            self.say(_story(one), always=True)

    # --- the judgement ------------------------------------------------------------------------------

    def _judge(self, one: Round) -> None:
        orders = [order for customer in self.customers[one.pair.plan.slug] for order in list(customer.acknowledged)]
        recovery = Recovery.objects.get(operation=one.operation)
        one.wrong = self._why_wrong(one)
        if one.operation.state != State.SUCCEEDED:
            return
        began = one.operation.started_at.timestamp() if one.operation.started_at else 0.0
        one.two = two_primaries([order for order in orders if order.at > began], one.old, one.new)
        one.lost = self._lost(one, recovery, orders)

    def _why_wrong(self, one: Round) -> str:
        if one.operation.state != State.SUCCEEDED:
            return f"it ended as {one.operation.state}: {one.operation.outcome}"
        one.pair.plan.refresh_from_db()
        if one.pair.plan.serving.slug != one.new:
            return f"the plan says that {one.pair.plan.serving.slug} serves"
        if entry_of(one.pair.name).get("site") != one.new:
            return f"the name stands for {entry_of(one.pair.name).get('site') or 'nobody'}"
        why = why_open(Server.of_url(one.pair.server(one.new).url_of(sites.DATABASE)), [sites.ROLE])
        if sites.ROLE not in why:
            return f"nobody may write to {one.new}: {why or 'it is fenced'}"
        return ""

    def _lost(self, one: Round, recovery: Recovery, orders: list[Acknowledged]) -> int:
        """Acknowledged orders that the new site does not have, though it promised them.

        Promised is everything where the old side was seen fenced; else everything until the restore point.
        """
        until = time.time() if recovery.fence_proven else _epoch(recovery.point.get("as_of", ""))
        wanted = {order.order for order in orders if order.site == one.old and order.at <= until}
        with one.pair.admin(one.new) as there:
            found = {str(row[0]) for row in there.execute("SELECT id FROM orders").fetchall()}
        lost = wanted - found - self.given_up
        if not recovery.fence_proven:
            # What is gone with a dead server is gone for later rounds too, and is counted there no more.
            self.given_up |= {order.order for order in orders if order.site == one.old} - found
        return len(lost)

    def _figures(self) -> dict[str, Any]:
        orders = sum(len(one.acknowledged) for pair in self.customers.values() for one in pair)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM backups_recovery WHERE kind = 'fence'")
            late = int(cursor.fetchone()[0])
        return {
            "rounds": len(self.done),
            "two_primaries": sum(one.two for one in self.done),
            "lost_beyond_rpo": sum(one.lost for one in self.done),
            "stuck": sum(not one.ended for one in self.done),
            "wrong_end": sum(bool(one.wrong) for one in self.done),
            "struck": sum(one.struck for one in self.done),
            "acknowledged": orders,
            "risks_accepted": sum(one.dead for one in self.done),
            "late_fences": late,
        }


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _is_quiet(pair: sites.Pair, *, there: bool) -> bool:
    """Both servers are up, the standby follows when people are at home, and nothing is left open behind them."""
    left = pair.plan.waiting.slug
    if there:
        with pair.admin(left) as standby:
            row = standby.execute("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'").fetchone()
        return bool(row and row[0])
    return why_open(Server.of_url(pair.server(left).url_of(sites.DATABASE)), [sites.ROLE]) == ""


def _story(one: Round) -> str:
    events = Event.objects.filter(operation=one.operation).order_by("seq")
    return "\n".join([
        f"WRONG: {one.pair.plan.slug} {one.kind} from {one.old} to {one.new}, {one.luck.name}: {one.wrong};"
        f" two {one.two}, lost {one.lost}, {one.operation.state} ({one.operation.outcome})",
        *(f"    {event.at:%H:%M:%S.%f} {event.kind:8} {event.text}" for event in events),
    ])  # fmt: skip


def _stop_services(folder: Path, pair: sites.Pair) -> None:
    for slug in (pair.plan.primary.slug, pair.plan.standby.slug):
        for state in (folder / "instances" / slug).glob("*/instance.json"):
            with suppress(ProcessLookupError, ValueError, KeyError):
                os.kill(json.loads(state.read_text())["pid"], signal.SIGTERM)
