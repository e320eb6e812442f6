"""The rounds: many deployments at once, one piece of bad luck for each, and a judge at the end.

Everything is judged from outside: what the services wrote down, what a viewer saw, what the database holds.
"""

import argparse
import json
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.db.models import Max

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.accounts.tokens import create_token
from controlplane.audit.record import SYSTEM
from controlplane.embedded.stack import Stack
from controlplane.operations.errors import StepError
from controlplane.operations.models import Event, Operation
from controlplane.operations.states import State
from deployments.models import Release
from deployments.services import request_deployment
from tests.chaos import fleets
from tests.chaos.crew import Crew
from tests.chaos.faults import FREEZE_SECONDS, Fault, thaw_later
from tests.chaos.fleets import Local
from tests.chaos.hosts import Hosts
from tests.chaos.viewer import Viewer

STUCK_SECONDS = 90.0
BAD = "3.0.0"

# Who writes an operation's events and steps while it is executing must be the worker that holds it.
STALE_WRITES = """
CREATE TABLE chaos_stale (at timestamptz DEFAULT clock_timestamp(), operation bigint, writer text, holder text);
CREATE FUNCTION chaos_watch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE holder text;
BEGIN
  SELECT worker INTO holder FROM operations_operation WHERE id = NEW.operation_id;
  IF current_setting('application_name') LIKE '%:%' AND holder <> '' AND holder <> current_setting('application_name')
  THEN INSERT INTO chaos_stale (operation, writer, holder)
       VALUES (NEW.operation_id, current_setting('application_name'), holder);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER chaos_events BEFORE INSERT ON operations_event FOR EACH ROW EXECUTE FUNCTION chaos_watch();
CREATE TRIGGER chaos_steps BEFORE UPDATE ON operations_step FOR EACH ROW EXECUTE FUNCTION chaos_watch();
"""


@dataclass
class Round:
    """One deployment and its bad luck."""

    fleet: fleets.Fleet
    version: str
    fault: Fault
    operation: Operation
    viewer: Viewer
    strike_at: float
    began: float = field(default_factory=time.monotonic)
    struck: float | None = None  # epoch
    ended: bool = False
    wrong: bool = False


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
        with connection.cursor() as cursor:
            cursor.execute(STALE_WRITES)
        self.redis = redis.Redis.from_url(settings.REDIS_URL)
        self.crew = Crew(folder)
        person = Person.objects.create(username="chaos", first_name="Chaos")
        Grant.objects.create(person=person, scope="*", role=Role.OPERATOR)
        self.actor = Actor(person)
        self.token = create_token(person, "viewer", Role.VIEWER, 1, SYSTEM("chaos"))[1]
        self.world: Local | Hosts = Hosts(folder) if arguments.driver == "hosts" else Local(folder)
        self.fleets = self.world.make(arguments.fleets)
        self.done: list[Round] = []
        self.going: list[Round] = []
        self.deck: list[Fault] = []

    def say(self, text: str, *, always: bool = False) -> None:
        """To the person who watches; the figures go to standard output. always: even if only figures are wanted."""
        if always or not self.quiet:
            print(text, file=sys.stderr, flush=True)

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """All rounds; returns the figures."""
        began = time.monotonic()
        try:
            while len(self.done) < self.rounds:
                self.crew.tend()
                try:
                    self._begin_rounds()
                    for current in list(self.going):
                        self._look_after(current)
                except OperationalError:
                    connections.close_all()  # PostgreSQL is being restarted, by us
                time.sleep(0.05)  # the pace of the judge, not a wait for anything
            return self._figures() | {"seconds": round(time.monotonic() - began)}
        finally:
            for current in self.going + self.done:
                current.viewer.stopped.set()
            self.crew.stop()
            for fleet in self.fleets:
                fleet.stop()
            self.world.stop()

    def _begin_rounds(self) -> None:
        busy = {current.fleet.environment.slug for current in self.going}
        for fleet in self.fleets:
            if fleet.environment.slug in busy or len(self.going) + len(self.done) >= self.rounds:
                continue
            good = "2.0.0" if fleet.version == "1.0.0" else "1.0.0"
            version = BAD if fleet.version and self.choice.random() < 0.25 else good
            release = Release.objects.get(version=version)
            try:
                operation = request_deployment(
                    self.actor, environment=fleet.environment, release=release, reason="chaos"
                )
            except StepError:
                continue  # its load balancer is away, by us
            viewer = Viewer(self.crew.port, operation.pk, self.token)
            viewer.start()
            fault = self._draw()
            if fault.boundary:
                fault.arm(self.folder / "faults", operation.pk, self.choice)
            strike_at = time.monotonic() + self.choice.uniform(0.0, 0.8)
            self.going.append(Round(fleet, version, fault, operation, viewer, strike_at))

    def _draw(self) -> Fault:
        """Every fault once before any comes again."""
        if not self.deck:
            self.deck = self.choice.sample(self.world.faults, len(self.world.faults))
        return self.deck.pop()

    def _look_after(self, current: Round) -> None:
        current.operation.refresh_from_db(fields=["state", "worker", "outcome", "last_seq"])
        executing = current.operation.state in (State.RUNNING, State.CANCELLING)
        if (
            not current.fault.boundary
            and current.struck is None
            and time.monotonic() >= current.strike_at
            and executing
        ):
            current.struck = time.time()
            current.fault.strike(self, current.operation)
        self._notice_boundary(current)
        late = time.monotonic() - current.began > STUCK_SECONDS
        if current.operation.is_finished or current.operation.state == State.NEEDS_OPERATOR or late:
            self._end(current)

    def _notice_boundary(self, current: Round) -> None:
        if current.struck is None and current.fault.boundary:
            with suppress(FileNotFoundError):
                struck = json.loads((self.folder / "faults" / f"{current.operation.pk}.struck").read_text())
                current.struck = struck["at"]
                if struck["action"] == "freeze":
                    thaw_later(struck["pid"], FREEZE_SECONDS)

    def _end(self, current: Round) -> None:
        self.going.remove(current)
        self.done.append(current)
        current.ended = current.operation.is_finished
        if current.operation.state == State.SUCCEEDED:
            current.fleet.version = current.version
        current.wrong = current.ended and self._is_wrong(current)
        self.say(
            f"{len(self.done):4} {current.fleet.environment.slug} {current.version} {current.operation.state:10}"
            f" {time.monotonic() - current.began:5.1f} s  {current.fault.name}{_recovered(current)}"
        )
        if current.wrong or not current.ended:
            self.say(_story(current), always=True)

    def _is_wrong(self, current: Round) -> bool:
        """Not the end it should have, or not what should run there now."""
        should = State.FAILED if current.version == BAD else State.SUCCEEDED
        return current.operation.state != should or _running(current.fleet) != {current.fleet.version}

    def restart_postgres(self, number: signal.Signals) -> None:
        """In order, or as a crash."""
        connections.close_all()
        assert self.stack.postgres
        self.stack.postgres.restart(number)

    # --- the judgement ----------------------------------------------------------------------------

    def _figures(self) -> dict[str, Any]:
        effects = [effect for fleet in self.fleets for effect in fleet.effects()]
        lost, doubled = self._events()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM chaos_stale")
            stale_writes = int(cursor.fetchone()[0])
        starts = sum(effect["event"] == "start" for effect in effects)
        needed = fleets.INSTANCES * sum(one.operation.state == State.SUCCEEDED for one in self.done)
        recovery = sorted(seconds for one in self.done if (seconds := _recovery(one)) is not None)
        return {
            "rounds": len(self.done),
            "wrong_end": sum(one.wrong for one in self.done),
            "repeated_effects": fleets.repeated(effects),
            "lost_events": lost,
            "doubled_events": doubled,
            "stuck": sum(not one.ended for one in self.done),
            "stale_writes": stale_writes + fleets.stale(effects),
            "unseen_starts": max(0, needed - starts),
            "recovery_p95_s": round(recovery[int(len(recovery) * 0.95)], 1) if recovery else None,
            "struck": sum(one.struck is not None for one in self.done),
            "recoveries": len(recovery),
            "service_starts": starts,
        }

    def _events(self) -> tuple[int, int]:
        """Against the counter in the database, and against what the viewers saw."""
        lost = doubled = 0
        for one in self.done:
            numbers = list(Event.objects.filter(operation=one.operation).values_list("seq", flat=True))
            last = Operation.objects.filter(pk=one.operation.pk).aggregate(last=Max("last_seq"))["last"]
            lost += len(set(range(1, last + 1)) - set(numbers))
            doubled += len(numbers) - len(set(numbers))
            one.viewer.join(timeout=20)
            lost += len(set(numbers) - set(one.viewer.seen))
            doubled += sum(count - 1 for count in one.viewer.seen.values())
        return lost, doubled


def _running(fleet: fleets.Fleet) -> set[str]:
    """What runs there; a load balancer that is away, by us, comes back."""
    give_up = time.monotonic() + 15
    while True:
        try:
            return fleet.running()
        except StepError as error:
            if time.monotonic() > give_up:
                return {str(error)}
        time.sleep(0.2)


def _recovery(one: Round) -> float | None:
    """Seconds from losing the worker to the first word of the next one."""
    if one.struck is None or not one.fault.lethal:
        return None
    taken = Event.objects.filter(operation=one.operation, text__contains="was lost;", at__isnull=False)
    times = [event.at.timestamp() - one.struck for event in taken]
    later = [seconds for seconds in times if seconds > 0]
    return min(later) if later else None


def _story(one: Round) -> str:
    """All there is to know of a round that did not end as it should."""
    events = Event.objects.filter(operation=one.operation).order_by("seq")
    return "\n".join(
        [
            f"WRONG: {one.fleet.environment.slug} to {one.version}, {one.fault.name} at {one.struck}:"
            f" {one.operation.state} ({one.operation.outcome}), runs {_running(one.fleet)}",
            *(f"    {event.at:%H:%M:%S.%f} {event.kind:8} {event.text}" for event in events),
            *(f"    {effect}" for effect in one.fleet.effects() if effect["operation"] == str(one.operation.pk)),
        ]
    )


def _recovered(one: Round) -> str:
    seconds = _recovery(one)
    return f", recovered in {seconds:.1f} s" if seconds is not None else ""
