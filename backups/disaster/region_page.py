"""What the page "what is in the other region" says, from rows alone: the clock asked, the page only reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.utils.dateparse import parse_datetime

from backups.disaster.base import NOT_READY, READY, UNKNOWN
from backups.disaster.overview import TONES, Looked
from backups.disaster.region_mends import under_way
from backups.disaster.regions import EVERY
from backups.disaster.uploads.comparing import Outcome, Totals
from backups.disaster.uploads.known import latest, still_missing, totals_of
from backups.models import RecoveryPlan, RegionLook, UploadsComparison
from controlplane.clock.database import database_time
from controlplane.operations.models import Operation
from controlplane.web.tones import Tone

# A look older than this says little of now.
FRESH = 3 * EVERY
ORDER = [NOT_READY, UNKNOWN, READY]


@dataclass(frozen=True)
class Both:
    """One thing on both sides: what it is, and the state and words of each."""

    name: str
    aside: str
    source: Looked
    target: Looked


@dataclass(frozen=True)
class Point:
    """Something that the database could come back from. behind: seconds."""

    title: str
    as_of: datetime
    behind: float


class RegionPage:
    """Both sides of one plan."""

    def __init__(self, plan: RecoveryPlan) -> None:
        self.plan = plan
        self.source, self.target = plan.serving, plan.waiting

    @cached_property
    def now(self) -> datetime:
        """By the database."""
        return database_time()

    @cached_property
    def look(self) -> RegionLook | None:
        """What the clock heard last, of this direction."""
        found = RegionLook.objects.filter(plan=self.plan, source=self.source.slug).first()
        return found if found and found.at else None

    @property
    def is_stale(self) -> bool:
        """Nobody has looked for too long."""
        return self.look is not None and self.look.at is not None and self.now - self.look.at > FRESH

    def _section(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.look.facts.get(name, {}) if self.look else {}
        return found

    # --- how it stands ------------------------------------------------------------------------------

    @property
    def tone(self) -> Tone:
        """All of it in one."""
        if self.look is None:
            return Tone.IDLE
        tones = {one.tone for one in self._everything}
        for worst in (Tone.BAD, Tone.WAIT):
            if worst in tones:
                return worst
        return Tone.WAIT if self.is_stale else Tone.OK

    @property
    def word(self) -> str:
        """The same in words."""
        if self.look is None:
            return "not looked at yet"
        words = {Tone.BAD: "something is missing", Tone.OK: "all there"}
        return words.get(self.tone, "not looked at lately" if self.is_stale else "not all is known")

    @property
    def _everything(self) -> Sequence[Looked]:
        both = [*self.images, *self.secrets]
        found = [*self.uploads, *self.database, *(one.target for one in both)]
        return [*found, *([self.kit] if self.kit.tone != Tone.IDLE else [])]

    # --- uploads ------------------------------------------------------------------------------------

    @cached_property
    def comparison(self) -> UploadsComparison | None:
        """The last one that came to its end."""
        return latest(self.plan, self.source.slug)

    @cached_property
    def totals(self) -> Totals | None:
        """What it counted."""
        return totals_of(self.comparison) if self.comparison else None

    @cached_property
    def comparing(self) -> Totals | None:
        """How far the clock is with the next one."""
        rows = UploadsComparison.objects.filter(plan=self.plan, source=self.source.slug, finished_at=None)
        row = rows.order_by("-pk").first()
        return totals_of(row) if row and row.totals else None

    @cached_property
    def under_way(self) -> Operation | None:
        """The operation that brings over what is missing, while there is one."""
        return under_way(self.plan)

    @property
    def uploads(self) -> list[Looked]:
        """What was found of replication."""
        return _checks(self._section("uploads"))

    @property
    def uploads_words(self) -> str:
        """Why there is nothing to show, "" when there is."""
        return "the plan names none" if not self.plan.uploads else str(self._section("uploads").get("words", ""))

    @property
    def missing(self) -> int:
        """Of the source's files, how many the target did not have, or not as they are now."""
        return still_missing(self.totals)[0] if self.totals else 0

    @property
    def missing_bytes(self) -> int:
        """How large they are."""
        return still_missing(self.totals)[1] if self.totals else 0

    @property
    def missing_tone(self) -> Tone:
        """Late ones are bad, others are on their way."""
        if self.totals is None:
            return Tone.IDLE
        return Tone.BAD if self.totals.late else Tone.BUSY if self.missing else Tone.OK

    @property
    def examples(self) -> list[tuple[str, str]]:
        """Names with what was the matter with them, and what could not be brought over."""
        if self.totals is None:
            return []
        # What was brought over was missing, and is not any more.
        brought = self.totals.copied > 0
        kept = [(name, words) for name, words in self.totals.examples if not brought or words == Outcome.NEWER]
        return [*((name, words) for name, words in self.totals.trouble), *kept]

    # --- the database -------------------------------------------------------------------------------

    @property
    def database(self) -> list[Looked]:
        """What its driver says of replica and snapshots."""
        return _checks(self._section("database"))

    @property
    def database_words(self) -> str:
        """Why nothing is known, "" when something is."""
        return str(self._section("database").get("words", ""))

    @property
    def points(self) -> list[Point]:
        """The newest things that it could come back from at the target."""
        found = []
        for one in self._section("database").get("candidates", []):
            as_of = parse_datetime(one["as_of"])
            if as_of is not None:
                found.append(Point(one["title"], as_of, max(0.0, (self._looked_at - as_of) / timedelta(seconds=1))))
        return found

    @property
    def more_points(self) -> int:
        """How many older ones there are."""
        return int(self._section("database").get("more", 0))

    @property
    def _looked_at(self) -> datetime:
        return self.look.at if self.look and self.look.at else self.now

    # --- images, configuration, kit -----------------------------------------------------------------

    @property
    def images(self) -> list[Both]:
        """Of each service: the image that people run, on both sides."""
        return [
            Both(one["service"], one["version"] or "version not known", _looked(one["source"]), _looked(one["target"]))
            for one in self._section("images").get("images", [])
        ]

    @property
    def images_words(self) -> str:
        """Why nothing is known."""
        return str(self._section("images").get("words", ""))

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Names of variables that are on one side only, differ, or are meant to."""
        return self._section("configuration")

    @property
    def secrets(self) -> list[Both]:
        """Each variable that is a secret on one side: can it be read there? What cannot comes first."""
        rows = [
            Both(one["name"], "", _looked(one["source"]), _looked(one["target"]))
            for one in self._section("configuration").get("secrets", [])
        ]
        return sorted(rows, key=lambda one: ORDER.index(one.target.word))

    @property
    def kit(self) -> Looked:
        """The copy of the kit that carries the plan out without the control plane."""
        found = self._section("kit")
        if "outcome" not in found:
            return Looked("Kit", Tone.IDLE, "none", str(found.get("words", "not known")))
        return _looked(found)

    @property
    def kit_made_at(self) -> datetime | None:
        """When."""
        return parse_datetime(str(self._section("kit").get("made_at", "")))


def _looked(found: Mapping[str, Any]) -> Looked:
    outcome = found["outcome"] if found["outcome"] in TONES else UNKNOWN
    return Looked(str(found.get("title", "")), TONES[outcome], outcome, str(found.get("words", "")))


def _checks(section: Mapping[str, Any]) -> list[Looked]:
    """What is not well first."""
    found = [_looked(one) for one in section.get("checks", [])]
    return sorted(found, key=lambda one: ORDER.index(one.word))
