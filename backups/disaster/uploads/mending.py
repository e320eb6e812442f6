"""The steps that bring over what is missing, the same for every kind of place.

Twice in a failover. `begin` goes through everything while the database is being restored; `wait`, behind the proof that
the old side writes no more, goes through it once more for what came in between. Both go on from a checkpoint.

A side that failed may not be readable: then what the target has is all there is, which is said, and the plan goes on.
So it does when the time for it is over: people wait to be served, and the rest can be mended afterwards. Only a target
that takes nothing stops it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.utils.dateparse import parse_datetime

from backups.disaster.base import Part, Side
from backups.disaster.uploads.comparing import Place, SourceAway, Totals
from backups.disaster.uploads.known import keep, last_known, late_before_ns, plan_between, still_serving
from backups.disaster.uploads.walking import Copier, Progress, Walk
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, Retry, StepSpec
from controlplane.operations.registry import Seen, StepContext, StepFunction

GROUP = "Uploads"
ATTEMPTS = 4
AGAIN = Retry(attempts=ATTEMPTS, wait=2.0)
MEND_MINUTES = 30.0
COMPARE_MINUTES = 60.0
WHOLE_SECONDS = 12 * 3600.0
# So much of a step's time is left for what is under way.
RESERVE_SECONDS = 20.0

# The settings of every kind. lag_minutes: how far behind the copy may be (60). compare_every_minutes: how often the
# clock compares both sides (60; 0 for never). mend_minutes: how long a failover may spend on it, each time (30).
# follow: the clock asks for what is missing to be brought over (false), where nothing else replicates.
COMMON = ("lag_minutes", "compare_every_minutes", "mend_minutes", "follow")


@dataclass(frozen=True)
class Ends:
    """Both sides, as they are gone through. secrets: never to be shown."""

    source: Place
    target: Place
    copier: Copier
    secrets: tuple[str, ...]


Open = Callable[[Side, Side], Ends]


def own_of(given: Mapping[str, Any], side: str) -> dict[str, Any]:
    """What a plan's `uploads` say of one side ("primary", "standby"): what is common, then its own."""
    common = {name: value for name, value in given.items() if name not in ("kind", "primary", "standby")}
    own = given.get(side, {})
    return {**common, **(own if isinstance(own, Mapping) else {})}


def check_common(given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the settings of every kind, by key."""
    wrong = {}
    for key in ("lag_minutes", "compare_every_minutes", "mend_minutes"):
        value = given.get(key, 1)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 60 * 24 * 7:
            wrong[key] = "has to be a number of minutes, at most a week"
    if not isinstance(given.get("follow", False), bool):
        wrong["follow"] = "has to be true or false"
    for side in ("primary", "standby"):
        if not isinstance(given.get(side), Mapping):
            wrong[side] = "has to be a table that says where this side's files are"
    return wrong


def mend_part(kind: str, source: Side, target: Side) -> Part:
    """See the module."""
    minutes = float(target.settings.get("mend_minutes", MEND_MINUTES))
    missing = f"{target.environment}, what is missing there"
    first = f"bring over what is missing at {target.environment}"
    again = f"bring over what came to {source.environment} meanwhile"
    return Part(
        begin=(_step(kind, "uploads/mend", (source, target), first, minutes * 60),),
        wait=(_step(kind, "uploads/mend-rest", (source, target), again, minutes * 60),),
        changes=({"what": "uploads", "from": source.environment, "to": missing},),
    )  # fmt: skip


def whole_step(kind: str, source: Side, target: Side) -> StepSpec:
    """The same by itself: it takes the time it needs, can be stopped, and fails when the source cannot be read."""
    title = f"bring over what is missing at {target.environment}"
    return _step(kind, "uploads/mend", (source, target), title, WHOLE_SECONDS, whole=True)


def _step(kind: str, key: str, ends: tuple[Side, Side], title: str, seconds: float, *, whole: bool = False) -> StepSpec:
    arguments: Arguments = {"source": _said(ends[0]), "target": _said(ends[1]), "whole": whole}
    return StepSpec(
        key, title, f"uploads.{kind}.mend", arguments, GROUP, seconds + RESERVE_SECONDS, AGAIN,
        safe_point=whole, interruptible=whole,
    )  # fmt: skip


def _said(side: Side) -> Arguments:
    return {"environment": side.environment, "settings": dict(side.settings)}


def steps_of(kind: str, open_ends: Open) -> Mapping[str, StepFunction]:
    """The step functions of a kind, by full name."""
    return {f"uploads.{kind}.mend": StepFunction(observe=_is_done, act=partial(_mend, open_ends))}


def _is_done(context: StepContext, *, source: Arguments, target: Arguments, whole: bool) -> Seen:
    return Seen.DONE if context.checkpoint.get("done") else Seen.NOT_DONE


def _mend(open_ends: Open, context: StepContext, *, source: Arguments, target: Arguments, whole: bool) -> None:
    _Mending(context, Side(**source), Side(**target), whole=whole).run(open_ends)


class _Mending:
    """One worker's turn at it."""

    def __init__(self, context: StepContext, source: Side, target: Side, *, whole: bool) -> None:
        self._context, self._source, self._target, self._whole = context, source, target, whole
        kept = context.checkpoint
        self._progress = Progress.of(kept)
        self._since: datetime = parse_datetime(kept.get("since", "")) or database_time()
        known = last_known(source, target)
        self._expected = Totals(**known.totals).source_count if known else 0

    def run(self, open_ends: Open) -> None:
        """Raises StepError."""
        try:
            ends = open_ends(self._source, self._target)
            self._context.mask(*ends.secrets)
            self._context.save_checkpoint(since=self._since.isoformat())
            self._abandon(ends.copier)
            self._walk(ends).go(self._progress)
        except SourceAway as error:
            self._without_source(error)
            return
        self._keep()
        self._end()

    def _abandon(self, copier: Copier) -> None:
        """What a killed worker had begun; where that cannot be, the bucket's own rules have to."""
        try:
            copier.abandon(self._context.checkpoint.get("uploads", []))
        except StepError as error:
            self._context.log(f"an upload that was begun before stays: {error}", level="warning")

    def _walk(self, ends: Ends) -> Walk:
        return Walk(
            ends.source, ends.target, self._context.check, self._is_enough, partial(self._tell, ends.copier),
            ends.copier,
            late_before_ns(self._target.settings, self._since),
        )  # fmt: skip

    def _is_enough(self) -> bool:
        return self._context.remaining() < RESERVE_SECONDS

    def _tell(self, copier: Copier, progress: Progress) -> None:
        still_serving(self._source.environment, self._target.environment)
        done = progress.totals.source_count
        self._context.save_checkpoint(**progress.as_json(), uploads=copier.unfinished())
        self._context.progress(done, done if progress.whole else max(done, self._expected), "objects")

    def _without_source(self, error: SourceAway) -> None:
        """What the target has is all there is; but a connection that was lost is tried again first."""
        where = self._source.environment
        if self._whole or (not error.permanent and self._context.attempt < ATTEMPTS):
            raise error
        done = self._progress.totals
        words = f"{where} cannot be read: {error} Not compared to the end; {done.copied} were brought over."
        self._context.log(f"{words} {self._target.environment} goes on with what it has.", level="warning")
        self._context.save_checkpoint(done=True, source_away=str(error))

    def _keep(self) -> None:
        plan = plan_between(self._source.environment, self._target.environment)
        if plan is not None:
            keep(plan, self._source.environment, self._since, self._progress, operation=self._context.operation_id)

    def _end(self) -> None:
        """Say what came of it. Raises StepError where all of it was wanted and is not there."""
        found = self._progress.totals
        said = self._context.log
        said(f"{found.source_count} objects, {found.source_bytes} bytes in {self._source.environment}: "
             f"{found.missing} were missing, {found.different} different; {found.copied} brought over")  # fmt: skip
        if found.newer:
            said(f"{found.newer} are newer in {self._target.environment} and stay as they are")
        for name, words in found.trouble:
            said(f"{name}: {words}", level="warning")
        if self._whole and (found.left or not self._progress.whole):
            why = f"{found.left} could not be brought over" if found.left else "there was not enough time for all"
            raise StepError(f"{why[0].upper()}{why[1:]}; what was, stays. Ask again to go on.", permanent=True)
        if found.left:
            said(f"{found.left} could not be brought over; the plan goes on without them", level="warning")
        if not self._progress.whole:
            said("the time for it is over before all were compared: mend the rest afterwards", level="warning")
        self._context.save_checkpoint(done=True)
