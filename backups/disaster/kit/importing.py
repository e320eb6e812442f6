"""A journal comes home: checked, kept once in the history, and, where it proves a failover, the plan's side is set.

1. The chain has to hold, the journal has to be of this plan, and the kit it was begun with has to be signed by us.
2. What is known already is not kept again; a longer journal of the same run takes the place of the shorter one.
3. The plan serves from the other side if the run succeeded there, and nothing by the control plane is newer than it.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from backups.disaster.kit.script.errors import Broken
from backups.disaster.kit.script.journal import Entry, entries_of
from backups.disaster.kit.script.manifest import check_signature
from backups.disaster.kit.signing import known_keys
from backups.models import KitRun, Recovery, RecoveryPlan
from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.models import Operation
from controlplane.operations.states import ACTIVE, State

SUCCEEDED, UNFINISHED = "succeeded", "unfinished"
LONGEST_NAME = 200
MOVES = (Recovery.Kind.FAILOVER, Recovery.Kind.FAILBACK)


@dataclass(frozen=True)
class Imported:
    """run: the row. fresh: whether it is new. words: what came of it, for the person who imports."""

    run: KitRun
    fresh: bool
    words: str


@dataclass(frozen=True)
class Story:
    """A journal that was checked. by: who did it, all their names."""

    entries: list[Entry]
    digest: str
    source: str
    target: str
    kit_digest: str
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    by: str

    @property
    def identity(self) -> str:
        """Of the run, however often it was started."""
        return str(self.entries[0]["hash"])


def import_journal(content: bytes, plan: RecoveryPlan, who: Who, keys: list[str] | None = None) -> Imported:
    """Keep a kit's run in the history. keys: of kits that others signed (hex). Raises Invalid, Conflict."""
    story = read_story(content, plan, keys or known_keys())
    with transaction.atomic():
        locked = RecoveryPlan.objects.select_for_update(of=("self",)).select_related("primary", "standby")
        plan = locked.get(pk=plan.pk)
        _nothing_under_way(plan)
        known = _known(plan, story)
        if known is not None and len(known.journal) >= len(story.entries):
            return Imported(known, False, f"It was imported before, by {known.imported_by_name}.")
        run = _kept(known, plan, story, who)
        words = _side_set(plan, story)
        transaction.on_commit(lambda: ring("news", "backups environments"))
        record(
            who, "recovery_kit.imported", f"recovery plan {plan.slug}", scopes=plan.scopes, reason=words,
            data={"journal": story.digest, "outcome": story.outcome, "by": story.by, "entries": len(story.entries),
                  "started_at": story.started_at.isoformat(), "active": plan.active},
        )  # fmt: skip
    return Imported(run, True, words)


def read_story(content: bytes, plan: RecoveryPlan, keys: list[str]) -> Story:
    """The journal, if it is one of this plan's. Raises Invalid, in words."""
    try:
        entries = entries_of(content)
    except (Broken, RecursionError) as error:
        raise Invalid(str(error)) from error
    if not entries or entries[0]["kind"] != "start":
        raise Invalid("This journal has no beginning.")
    _storable(entries)
    first = entries[0]["data"]
    if first.get("plan") != plan.slug:
        raise Invalid(f"This is the journal of {first.get('plan')!s:.100}, not of {plan.slug}.")
    pair = [plan.primary.slug, plan.standby.slug]
    if [first.get("source"), first.get("target")] not in (pair, pair[::-1]):
        raise Invalid(f"This journal is of other environments than {plan.primary.slug} and {plan.standby.slug}.")
    _signed_by_us(first, keys)
    ended = next((one for one in entries if one["kind"] == "end"), None)
    names = dict.fromkeys(str(one["data"]["by"]) for one in entries if one["data"].get("by"))
    whole = content[: content.rfind(b"\n") + 1]
    return Story(
        entries, hashlib.sha256(whole).hexdigest(), first["source"], first["target"],
        str(first.get("content_digest", ""))[:64], _time(entries[0]), _time(ended) if ended else None,
        SUCCEEDED if ended and ended["data"].get("outcome") == SUCCEEDED else UNFINISHED,
        ", ".join(names)[:LONGEST_NAME] or "nobody",
    )  # fmt: skip


def _storable(entries: list[Entry]) -> None:
    """PostgreSQL keeps neither NUL, nor half a surrogate pair, nor a number that is none; recover.py writes none."""
    try:
        text = json.dumps(entries, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise Invalid(f"This journal holds what cannot be stored: {error}.") from error
    if "\\u0000" in text:
        raise Invalid("This journal holds a NUL character, which recover.py never writes.")


def _signed_by_us(first: dict[str, Any], keys: list[str]) -> None:
    trouble: Broken | None = None
    for key in keys:
        try:
            check_signature(str(first.get("manifest", "")).encode(), str(first.get("signature", "")), key)
        except Broken as error:
            trouble = trouble or error
        else:
            return
    raise Invalid(
        f"The kit of this journal was not signed by this control plane: {trouble} If SECRET_KEY was changed since, "
        "give the key that the kit's RUNBOOK.md names with --key."
    )


def _time(entry: Entry) -> datetime:
    try:
        at = datetime.fromisoformat(entry["at"])
    except ValueError as error:
        raise Invalid(f"Line {entry['n'] + 1} of the journal has no time.") from error
    if at.tzinfo is None:
        raise Invalid(f"Line {entry['n'] + 1} of the journal has a time without a zone.")
    return at


def _nothing_under_way(plan: RecoveryPlan) -> None:
    active = Operation.objects.filter(recovery__plan=plan, state__in=ACTIVE).order_by("pk").first()
    if active is not None:
        raise Conflict(f"Operation {active.pk} of this plan is under way. Import the journal once it has ended.")


def _known(plan: RecoveryPlan, story: Story) -> KitRun | None:
    """The same run, as far as it was imported before."""
    return KitRun.objects.filter(plan=plan, journal__0__hash=story.identity).first()


def _kept(known: KitRun | None, plan: RecoveryPlan, story: Story, who: Who) -> KitRun:
    run = known or KitRun(plan=plan)
    run.digest, run.kit_digest = story.digest, story.kit_digest
    run.started_at, run.finished_at, run.outcome = story.started_at, story.finished_at, story.outcome
    run.by_name, run.journal, run.imported_by_name = story.by, story.entries, who.name[:LONGEST_NAME]
    run.save()
    return run


def _side_set(plan: RecoveryPlan, story: Story) -> str:
    """Which side serves now, if the journal proves that it is another; in words."""
    if story.outcome != SUCCEEDED or story.finished_at is None:
        return f"The run has not ended: {plan.serving.slug} is still taken to serve people."
    if plan.serving.slug == story.target:
        return f"{story.target} was taken to serve people already."
    newer = Recovery.objects.filter(
        plan=plan, kind__in=MOVES, operation__state=State.SUCCEEDED, operation__finished_at__gt=story.started_at
    )
    if newer.exists():
        return f"{plan.serving.slug} is still taken to serve people: the control plane moved them after this run."
    side = RecoveryPlan.Side.PRIMARY if story.target == plan.primary.slug else RecoveryPlan.Side.STANDBY
    plan.active = side
    plan.save(update_fields=["active"])
    return f"{story.target} serves people now, not {story.source}.{_unproven(story)}"


def _unproven(story: Story) -> str:
    """What somebody took upon themselves, and nobody has seen to hold since."""
    left = next(one for one in story.entries if one["kind"] == "end")["data"].get("unproven")
    return f" Nobody has proven that {story.source} is fenced: see to it." if left else ""
