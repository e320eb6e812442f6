"""The judge: what the provider wrote down, against when levels were due and when people knew of acknowledgements.

From the database it takes the names of things only: which incident a case became, when its levels were due, which
level and person a key stands for.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from incidents.models import Delivery, Incident, Level, Page

KEY = re.compile(r"page-(\d+)-(\d+)")
LINK = re.compile(r"http://[^\s\"]*/ack/[^\s\"]*")
# The others know a repeat by its key.
WITHOUT_KEYS = ("sms",)
# A level that is due goes to its provider within so long, whatever is killed, frozen or restarted meanwhile.
BOUND_SECONDS = 45.0


@dataclass(frozen=True)
class Arrival:
    """One request of a page at the provider. at: epoch seconds. taken: the provider may have acted on it."""

    at: float
    key: str
    taken: bool


@dataclass
class Verdict:
    """What is wrong with one case, in words, by figure."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    repeats: int = 0
    late: list[float] = field(default_factory=list)  # seconds from due to the provider
    arrived: int = 0


class Log:
    """The provider's book, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrivals: dict[int, list[Arrival]] = defaultdict(list)  # by page
        self.links: dict[int, str] = {}  # to acknowledge, by page
        self._read = 0
        path.touch()

    def read(self) -> None:
        """Read on."""
        with self.path.open() as book:
            book.seek(self._read)
            while (line := book.readline()).endswith("\n"):
                self._read = book.tell()
                self._note(json.loads(line))

    def _note(self, note: dict[str, Any]) -> None:
        found = KEY.fullmatch(note["headers"].get("idempotency-key", ""))
        if found is None or not note["path"].startswith("POST"):
            return
        page, taken = int(found[1]), note["status"] == 0 or 200 <= note["status"] < 300
        self.arrivals[page].append(Arrival(note["at"], found[0], taken))
        if link := LINK.search(unquote_plus(note["body"])):
            self.links[page] = link[0]


def judge(log: Log, incident: Incident, known: float | None, ended: float) -> Verdict:
    """known: when somebody knew of the acknowledgement (or of the end). ended: until when it went on."""
    log.read()
    verdict = Verdict()
    by_level: dict[int, list[Arrival]] = defaultdict(list)
    for page in Page.objects.filter(incident=incident):
        arrivals = log.arrivals.get(page.pk, [])
        verdict.arrived += len(arrivals)
        by_level[page.level_id or 0] += [one for one in arrivals if one.taken]
        _doubled(verdict, page, arrivals)
        for one in arrivals:
            if known is not None and one.at > known:
                verdict.wrong["after_ack"].append(f"{one.key} arrived {one.at - known:.3f} s after it was known")
    levels = list(Level.objects.filter(incident=incident).order_by("due_at"))
    for level in levels:
        _lost(verdict, level, levels, by_level, min(known or ended, ended))
    _stuck(verdict, incident)
    return verdict


def _doubled(verdict: Verdict, page: Page, arrivals: list[Arrival]) -> None:
    """Two effects on one person by one channel for one level; ways of a page are different channels."""
    by_channel: dict[str, list[str]] = defaultdict(list)
    for one in arrivals:
        way = int(one.key.rsplit("-", 1)[1])
        if one.taken:
            by_channel[page.ways[way]["channel"]].append(one.key)
    for channel, keys in by_channel.items():
        if len(set(keys)) > 1 or (len(keys) > 1 and channel in WITHOUT_KEYS):
            verdict.wrong["doubled"].append(f"{channel} got {sorted(keys)}")
        else:
            verdict.repeats += len(keys) - 1


def _lost(
    verdict: Verdict, level: Level, levels: list[Level], by_level: dict[int, list[Arrival]], until: float
) -> None:
    """Nothing of it came within its bound, though nobody had it then. One that was passed over goes with a higher."""
    due = level.due_at.timestamp()
    own = [one.at for one in by_level[level.pk]]
    if own:
        verdict.late.append(min(own) - due)
    higher = [one.at for other in levels if other.due_at > level.due_at for one in by_level[other.pk]]
    came = min(own or (higher if level.state == Level.State.PASSED else []), default=None)
    if until > due + BOUND_SECONDS and (came is None or came > due + BOUND_SECONDS):
        what = "never came" if came is None else f"came after {came - due:.1f} s"
        verdict.wrong["lost"].append(f"L{level.number} ({level.state}) {what}: {level.words}")


def _stuck(verdict: Verdict, incident: Incident) -> None:
    left = Level.objects.filter(incident=incident, state=Level.State.PENDING).exists()
    waiting = Delivery.objects.filter(
        incident=incident, purpose=Delivery.Purpose.PAGE, state__in=[Delivery.State.QUEUED, Delivery.State.SENDING]
    ).exists()
    if incident.state == Incident.State.OPEN or left or waiting:
        verdict.wrong["stuck"].append(f"{incident} is {incident.state}, levels left: {left}, outbox: {waiting}")
