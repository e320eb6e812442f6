"""The rounds: several alerts each and one piece of bad luck, many rounds beside each other, and a judge at the end."""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connections
from django.db.models.functions import Now

from controlplane.clock.models import Beat
from controlplane.embedded.processes import free_port
from controlplane.embedded.stack import Stack
from incidents.models import Page, TimelineEntry
from tests.chaos.crew import Crew
from tests.chaos.incidents import clients, world
from tests.chaos.incidents.cases import Case
from tests.chaos.incidents.clients import Client
from tests.chaos.incidents.judge import Log, judge
from tests.chaos.incidents.luck import BY_WEB, CLOCKS, FOR_GOOD_SECONDS, FREEZE_SECONDS, STAGES, Luck, missing, shuffled

WRONG = ("lost", "doubled", "after_ack", "stuck")
CASES = 4  # alerts of a round
# Between two strikes: a supervisor needs some seconds to start a clock again, and there are two.
TRY_SECONDS = 0.2
APART_SECONDS = 1.0
UP_SECONDS = 12.0  # of the web process, which all rounds need
NEVERTHELESS_SECONDS = 8.0


@dataclass
class Round:
    """Some alerts at about the same time, and one piece of bad luck among them."""

    name: str
    luck: Luck
    cases: list[Case]
    strike_at: float
    struck: bool = False
    stage: str = ""  # where it is laid out
    wrong: Counter[str] = field(default_factory=Counter)


class Chaos:
    """One run. The processes are kept alive by a crew, as a supervisor would."""

    def __init__(self, stack: Stack, folder: Path, arguments: argparse.Namespace) -> None:
        self.stack = stack
        self.folder = folder
        self.rounds: int = arguments.rounds
        self.lanes: int = 2 * arguments.fleets
        self.quiet: bool = arguments.json
        seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
        self.choice = random.Random(seed)
        self.say(f"seed {seed}", always=True)
        for name in ("armed", "seen", "struck", "reports", "moods"):
            (folder / name).mkdir()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)  # people acknowledge on pages
        assert not missing(), f"no duty of the clock is called {missing()} any more"
        provider = free_port()
        self.world = world.build(f"http://127.0.0.1:{provider}", folder)
        self.source_token = world.SOURCE_TOKEN
        self.log = Log(folder / "provider.jsonl")
        self.crew = Crew(folder, web=False)
        program = [sys.executable, "-m", "tests.chaos.incidents.program"]
        self.crew.commands = {
            "provider": [sys.executable, "-m", "tests.chaos.incidents.provider", str(provider)],
            "web": [*program, "web", str(self.crew.port)],
            "clock-0": [*program, "clock"],
            "clock-1": [*program, "clock"],
        }
        os.environ["SITE_URL"] = f"http://127.0.0.1:{self.crew.port}"  # links lead to our web process
        self.thaw_at: list[tuple[float, int]] = []
        self.going: list[Round] = []
        self.done: list[Round] = []
        self.deck: list[Luck] = []
        self.last_strike = {True: time.time(), False: time.time()}  # of the web process, of clocks
        self.hits = 0
        self.try_at = 0.0
        self.started: dict[int, float] = {}  # when each process was first seen

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
                for process in self.crew.processes.values():
                    self.started.setdefault(process.pid, time.time())
                try:
                    self._thaw()
                    self._begin_rounds()
                    for current in list(self.going):
                        self._look_after(current)
                except (OperationalError, InterfaceError):
                    connections.close_all()  # PostgreSQL is being restarted, by us
                time.sleep(0.1)  # the pace of the judge, not a wait for anything
            return self._figures() | {"seconds": round(time.monotonic() - began)}
        finally:
            for _, pid in self.thaw_at:
                _continue(pid)
            self.crew.stop()

    def _begin_rounds(self) -> None:
        while len(self.going) < self.lanes and len(self.going) + len(self.done) < self.rounds:
            self.deck = self.deck or shuffled(self.choice)
            # The name ends with a mark, so that no name begins another one.
            name = f"round-{len(self.going) + len(self.done)}."
            now = time.time()
            cases = [self._case(f"{name}{number}", now) for number in range(CASES)]
            self.going.append(Round(name, self.deck.pop(), cases, now + self.choice.uniform(0.0, 6.0)))

    def _case(self, name: str, now: float) -> Case:
        patience = None if self.choice.random() < 0.4 else self.choice.uniform(0.0, 8.0)
        by = self.choice.choice(WAYS)
        return Case(name, now + self.choice.uniform(0.0, 3.0), patience, self.choice.random() < 0.3, by)

    def acknowledgement(self, case: Case) -> Client:
        """Somebody who acknowledges, by one of the ways there are; by the API when nobody has a link yet."""
        assert case.incident is not None
        pk, port = case.incident.pk, self.crew.port
        if case.by == "link":
            self.log.read()
            pages = Page.objects.filter(incident=pk).order_by("-pk").values_list("pk", flat=True)
            if link := next((self.log.links[page] for page in pages if page in self.log.links), None):
                return clients.by_form(port, link.partition(str(port))[2], "", "ack/")
        if case.by == "page":
            return clients.by_form(port, f"/incidents/{pk}", self.world.session, "acknowledge")
        if case.by == "pagerduty":
            return clients.by_pagerduty(port, world.SECRET, pk)
        return clients.acknowledge(port, self.world.token, pk)

    def _look_after(self, current: Round) -> None:
        at_once = current.luck.name.startswith("provider")
        if not current.struck and (at_once or time.time() >= max(current.strike_at, self.try_at)):
            self.try_at = time.time() + TRY_SECONDS
            current.struck = current.luck.strike(self, current)
            if current.struck and not at_once:
                of_web = current.stage in BY_WEB or current.luck.name.endswith("web")
                self.last_strike[of_web] = time.time()
        for case in current.cases:
            if case.ended is None:
                case.go_on(self)
        if all(case.ended is not None for case in current.cases):
            self._end(current)

    def is_calm(self, names: tuple[str, ...]) -> bool:
        """Whether what is struck together got over the last strike: processes are struck no faster than they start.

        Clocks: both beat, or one does and has done so for long. One wish is laid out at a time.
        """
        is_web = names != CLOCKS
        now, last = time.time(), self.last_strike[is_web]
        mine = {name.replace(" ", "-") for name in (BY_WEB if is_web else set(STAGES) - set(BY_WEB))}
        if now - last < APART_SECONDS or any(path.stem in mine for path in (self.folder / "armed").glob("*.json")):
            return False
        processes = [self.crew.processes[name] for name in (("web",) if is_web else CLOCKS)]
        if is_web:
            return all(now - self.started.get(one.pid, now) > UP_SECONDS and one.poll() is None for one in processes)
        lately = Now() - timedelta(seconds=2)
        beating = Beat.objects.filter(beat_at__gt=lately, started_at__lt=lately).values_list("name", flat=True)
        well = sum(any(name.endswith(f":{one.pid}") for name in beating) for one in processes)
        return well == len(CLOCKS) or (well == 1 and now - last > NEVERTHELESS_SECONDS)

    def _end(self, current: Round) -> None:
        self.going.remove(current)
        self.done.append(current)
        if not current.struck:
            self.deck.append(current.luck)  # nobody was well enough for it; another round has it
        if current.stage:
            (self.folder / "armed" / f"{current.stage}.json").unlink(missing_ok=True)
        seconds = time.time() - min(case.begin_at for case in current.cases)
        self.say(f"{len(self.done):4} {current.name} {seconds:5.1f} s  {current.luck.name}")
        for case in current.cases:
            self._complain(case, current)

    def _complain(self, case: Case, current: Round) -> None:
        if any(case.verdict.wrong.values()):
            self.say(_story(case, current), always=True)

    # --- bad luck ---------------------------------------------------------------------------------

    def kill(self, name: str) -> bool:
        """A process, if it runs."""
        if name not in self.crew.processes or self.crew.processes[name].poll() is not None:
            return False
        self.crew.kill(name)
        return True

    def thaw(self, pid: int, *, is_clock: bool) -> None:
        """Let a frozen process go on after a while."""
        others = [one for _, one in self.thaw_at if one != self.crew.processes["web"].pid]
        # Not both clocks for longer than a level may be late: no engine could help that.
        choices = FREEZE_SECONDS[:2] if others or not is_clock else (*FREEZE_SECONDS, FOR_GOOD_SECONDS)
        self.thaw_at.append((time.monotonic() + self.choice.choice(choices), pid))

    def restart_postgres(self, number: signal.Signals) -> None:
        """In order, or as a crash."""
        connections.close_all()
        assert self.stack.postgres
        self.stack.postgres.restart(number)

    def _thaw(self) -> None:
        for report in (self.folder / "reports").glob("*.json"):
            struck = json.loads(report.read_text())
            report.rename(report.with_suffix(".read"))
            self.say(f"     {struck['action']} at {struck['boundary']}")
            if struck["action"] == "freeze":
                self.thaw(struck["pid"], is_clock=struck["pid"] != self.crew.processes["web"].pid)
            self.last_strike[struck["boundary"].startswith(BY_WEB)] = time.time()
            self.hits += 1
        now = time.monotonic()
        for due, pid in [pair for pair in self.thaw_at if pair[0] <= now]:
            self.thaw_at.remove((due, pid))
            _continue(pid)

    # --- the judgement ----------------------------------------------------------------------------

    def _figures(self) -> dict[str, Any]:
        """What arrived since the cases ended counts too: whoever was frozen has gone on by now."""
        for _, pid in self.thaw_at:
            _continue(pid)
        time.sleep(3.0)  # what would still leave leaves by then
        cases = [case for one in self.done for case in one.cases]
        for case in cases:
            before = len(case.verdict.wrong["after_ack"]) + len(case.verdict.wrong["doubled"])
            if case.incident is not None and case.ended is not None:
                again = judge(self.log, case.incident, case.known, case.ended)
                case.verdict.wrong["after_ack"] = again.wrong["after_ack"]
                case.verdict.wrong["doubled"] = again.wrong["doubled"]
                case.verdict.repeats = again.repeats
            if len(case.verdict.wrong["after_ack"]) + len(case.verdict.wrong["doubled"]) > before:
                self.say(f"WRONG, afterwards: {case.name}: {dict(case.verdict.wrong)}", always=True)
        names = tuple(f"{stage.replace(' ', '-')}." for stage in STAGES)
        late = sorted(max(0.0, seconds) for case in cases for seconds in case.verdict.late)
        return {
            "rounds": len(self.done),
            **{name: sum(len(case.verdict.wrong[name]) for case in cases) for name in WRONG},
            "late_p99_ms": round(late[int(len(late) * 0.99)] * 1000) if late else None,
            "late_p50_ms": round(late[len(late) // 2] * 1000) if late else None,
            "harmless_repeats": sum(case.verdict.repeats for case in cases),
            "cases": len(cases),
            "pages": len(late),
            "acknowledged": sum(case.known is not None for case in cases),
            "struck": sum(one.struck for one in self.done),
            "hits": self.hits,
            "boundaries": len(list((self.folder / "struck").iterdir())),
            "boundaries_seen": len([path for path in (self.folder / "seen").iterdir() if path.name.startswith(names)]),
        }


WAYS = ("api", "link", "page", "pagerduty")


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _story(case: Case, current: Round) -> str:
    """All there is to know of a case that did not go as it should."""
    lines = [f"WRONG: {case.name} ({current.luck.name}): {dict(case.verdict.wrong)}"]
    if case.incident is not None:
        lines.append(f"    known at {case.known}, ended at {case.ended}, by {case.by}")
        with suppress(OperationalError, InterfaceError):
            entries = TimelineEntry.objects.filter(incident=case.incident).order_by("seq")
            lines += [f"    {entry.at:%H:%M:%S.%f} {entry.kind:8} {entry.text}" for entry in entries]
            deliveries = case.incident.deliveries.order_by("pk")
            lines += [f"    {one.key} {one.channel} {one.state} tries {one.attempts} {one.error}" for one in deliveries]
    return "\n".join(lines)
