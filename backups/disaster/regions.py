"""What is in the other region: asked by the clock every ten minutes, kept in rows, shown by the page.

Of secrets only their names, and whether they can be read; of variables that differ only their names.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from time import monotonic
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from backups.disaster.base import NOT_READY, READY, UNKNOWN, Check, Side
from backups.disaster.databases import DATABASES
from backups.disaster.images import image_at
from backups.disaster.region_mends import request_mend
from backups.disaster.sides import database_part, sides
from backups.disaster.uploads import ENDS, UPLOADS
from backups.disaster.uploads.known import keep_only_the_last, late_before_ns, latest
from backups.disaster.uploads.mending import COMPARE_MINUTES
from backups.disaster.uploads.walking import Progress, Walk
from backups.models import RecoveryKit, RecoveryPlan, RegionLook, UploadsComparison
from backups.storage import open_store
from controlplane.accounts.access import Machine
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import OperationError, StepError
from environments.models import ConfigEntry, Environment, Placement
from environments.secrets import resolve
from environments.targets import target_of

logger = logging.getLogger(__name__)

EVERY = timedelta(minutes=10)
AT_ONCE = 3
# A comparison goes on in the next turn: nothing else of the clock's waits for it, but a plan may.
TURN_SECONDS = 30.0
# One that was not finished for so long says too little of now: begin again.
STALE = timedelta(hours=12)
CANDIDATES = 5
NOT_KNOWN = "not known: nothing answers"
CLOCK = Machine(SYSTEM("clock"))
ROWS = """
    INSERT INTO backups_regionlook (plan_id, source, facts)
    SELECT id, '', '{}' FROM backups_recoveryplan ON CONFLICT DO NOTHING
"""
CLAIM = """
    UPDATE backups_regionlook SET due_at = clock_timestamp() + make_interval(secs => %s)
    WHERE id IN (
        SELECT id FROM backups_regionlook WHERE due_at <= clock_timestamp()
        ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
    RETURNING plan_id
"""

Facts = dict[str, Any]


def look_due() -> int:
    """Look at both sides of the plans whose time has come; returns how many. The next time is set first."""
    with connection.cursor() as cursor:
        cursor.execute(ROWS)
        cursor.execute(CLAIM, [EVERY.total_seconds(), AT_ONCE])
        claimed = [row[0] for row in cursor.fetchall()]
    for plan in RecoveryPlan.objects.select_related("primary", "standby").filter(pk__in=claimed):
        if not compare(plan):
            RegionLook.objects.filter(plan=plan).update(due_at=Now())
        if _is_old(plan):
            look(plan)
    return len(claimed)


def _is_old(plan: RecoveryPlan) -> bool:
    """Not while a comparison goes on turn after turn."""
    look = RegionLook.objects.get(plan=plan)
    since = database_time() - look.at if look.at else None
    return since is None or look.source != plan.serving.slug or since >= EVERY - timedelta(seconds=TURN_SECONDS)


def look(plan: RecoveryPlan) -> RegionLook:
    """Ask everything, and keep what was heard. Network; call it outside a transaction."""
    facts = {name: _asked(name, ask, plan) for name, ask in SECTIONS.items()}
    with transaction.atomic():
        values = {"at": Now(), "source": plan.serving.slug, "facts": facts}
        RegionLook.objects.update_or_create(plan=plan, defaults=values)
        transaction.on_commit(lambda: ring("news", "backups environments"))
    return RegionLook.objects.get(plan=plan)


def _asked(name: str, ask: Callable[[RecoveryPlan], Facts], plan: RecoveryPlan) -> Facts:
    """One section's fault must not hide what the others know."""
    try:
        return ask(plan)
    except StepError as error:
        return {"words": f"not known: {error}"}
    except Exception as error:
        logger.exception("both regions of %s: %s", plan, name)
        return {"words": f"not known: it could not be asked ({type(error).__name__})"}


# --- uploads ------------------------------------------------------------------------------------------


def compare(plan: RecoveryPlan) -> bool:
    """Compare both sides' uploads when it is time, for a turn; False while there is more to do.

    A side that cannot be read now is asked again with the next look.
    """
    if not plan.uploads:
        return True
    row = _comparison_due(plan)
    if row is None:
        return True
    source, target = sides(plan, plan.uploads, plan.serving)
    try:
        progress = _turn(row, source, target)
    except StepError as error:
        logger.warning("comparing the uploads of %s: %s", plan, error)
        return True
    if progress.whole:
        UploadsComparison.objects.filter(pk=row.pk).update(whole=True, finished_at=Now())
        keep_only_the_last(plan, row.source)
        transaction.on_commit(lambda: ring("news", "backups environments"))
        _follow(plan, progress, target)
    return progress.whole


def _comparison_due(plan: RecoveryPlan) -> UploadsComparison | None:
    """The one to go on with, or a new one; None when it is not time."""
    minutes = float(plan.uploads.get("compare_every_minutes", COMPARE_MINUTES))
    if not minutes:
        return None
    source, now = plan.serving.slug, database_time()
    rows = UploadsComparison.objects.filter(plan=plan, source=source, whole=False, operation=None)
    row = rows.filter(started_at__gt=now - STALE).order_by("-pk").first()
    if row is not None:
        return row
    last = latest(plan, source)
    if last and last.finished_at and now - last.finished_at < timedelta(minutes=minutes):
        return None
    made = UploadsComparison.objects.create(plan=plan, source=source)
    made.refresh_from_db()
    return made


def _turn(row: UploadsComparison, source: Side, target: Side) -> Progress:
    """Raises StepError; what was counted stays counted."""
    ends = ENDS[row.plan.uploads["kind"]](source, target)
    end = monotonic() + TURN_SECONDS

    def keep(progress: Progress) -> None:
        values = progress.as_json()
        UploadsComparison.objects.filter(pk=row.pk).update(after=values["after"], totals=values["totals"])

    walk = Walk(
        ends.source, ends.target, lambda: None, lambda: monotonic() > end, keep,
        late_before_ns=late_before_ns(target.settings, row.started_at),
    )  # fmt: skip
    return walk.go(Progress.of({"after": row.after, "totals": row.totals}))


def _follow(plan: RecoveryPlan, progress: Progress, target: Side) -> None:
    """Where nothing else replicates, the clock asks for what is missing."""
    missing = progress.totals.missing + progress.totals.different
    if not missing or not target.settings.get("follow", False):
        return
    try:
        request_mend(CLOCK, plan, reason=f"{missing} objects are missing at {target.environment} (follow)")
    except OperationError as error:
        logger.info("uploads of %s: %s", plan, error)


def _uploads(plan: RecoveryPlan) -> Facts:
    if not plan.uploads:
        return {"words": "the plan names none"}
    checks = UPLOADS[plan.uploads["kind"]].readiness(*sides(plan, plan.uploads, plan.serving))
    return {"kind": plan.uploads["kind"], "checks": [asdict(one) for one in checks]}


# --- the database -------------------------------------------------------------------------------------


def _database(plan: RecoveryPlan) -> Facts:
    kind = DATABASES.get(plan.database.get("kind", ""))
    if kind is None:
        return {"words": f"not known: there is no kind {plan.database.get('kind', '')!r} of database"}
    source, target = sides(plan, database_part(plan), plan.serving)
    words, found = "", []
    try:
        found = sorted(kind.candidates(source, target), key=lambda one: one.as_of, reverse=True)
    except StepError as error:
        words = f"not known: {error}"
    return {
        "kind": kind.kind, "words": words, "checks": [asdict(one) for one in kind.readiness(source, target)],
        "candidates": [{"title": one.title, "as_of": one.as_of.isoformat()} for one in found[:CANDIDATES]],
        "more": max(0, len(found) - CANDIDATES),
    }  # fmt: skip


# --- images -------------------------------------------------------------------------------------------


def _images(plan: RecoveryPlan) -> Facts:
    """Of each service that the plan counts: the digest that people run, and whether both sides have it."""
    rows = Placement.objects.filter(environment__in=[plan.primary, plan.standby], service__slug__in=plan.services)
    placed = {(one.environment_id, one.service.slug): one for one in rows.select_related("environment", "service")}
    images = []
    for service in sorted(plan.services):
        here = placed.get((plan.serving.pk, service))
        digest = here.digest if here else ""
        both = [_image(environment, placed.get((environment.pk, service)), digest)
                for environment in (plan.serving, plan.waiting)]  # fmt: skip
        version = here.version if here else ""
        images.append({"service": service, "version": version, "digest": digest, "source": both[0], "target": both[1]})
    return {"images": images}


def _image(environment: Environment, placement: Placement | None, digest: str) -> Facts:
    if placement is None:
        return {"outcome": NOT_READY, "words": f"it has no place in {environment.slug}"}
    return asdict(image_at(environment.driver, target_of(placement, configuration=""), digest))


# --- configuration ------------------------------------------------------------------------------------


def _configuration(plan: RecoveryPlan) -> Facts:
    """By name: secrets that can be read on each side, variables that are on one side only, or differ."""
    here, there = ({one.key: one for one in ConfigEntry.objects.filter(environment=side)}
                   for side in (plan.serving, plan.waiting))  # fmt: skip
    names = sorted(name for name in here.keys() | there.keys() if _is_secret(here, name) or _is_secret(there, name))
    secrets = [{"name": name, "source": _secret(here.get(name)), "target": _secret(there.get(name))} for name in names]
    shared = sorted((here.keys() & there.keys()) - set(names))
    # What a failover sets is meant to differ.
    swapped = sorted(plan.configuration)
    return {
        "secrets": secrets,
        "only_source": sorted(here.keys() - there.keys() - set(names) - set(swapped)),
        "only_target": sorted(there.keys() - here.keys() - set(names) - set(swapped)),
        "different": [name for name in shared if here[name].value != there[name].value and name not in swapped],
        "same": sum(here[name].value == there[name].value for name in shared),
        "swapped": swapped,
    }  # fmt: skip


def _is_secret(entries: dict[str, ConfigEntry], name: str) -> bool:
    return name in entries and bool(entries[name].secret)


def _secret(entry: ConfigEntry | None) -> Facts:
    """Never its value, nor where it is."""
    if entry is None:
        return {"outcome": NOT_READY, "words": "is not configured"}
    if not entry.secret:
        return {"outcome": READY, "words": "a plain value"}
    try:
        resolve(entry.secret)
    except StepError as error:
        outcome = NOT_READY if error.permanent else UNKNOWN
        return {"outcome": outcome, "words": "cannot be read" if error.permanent else "could not be asked now"}
    return {"outcome": READY, "words": "can be read"}


# --- the kit ------------------------------------------------------------------------------------------


def _kit(plan: RecoveryPlan) -> Facts:
    """The newest one, and whether it is where it was put."""
    if plan.kit_storage is None:
        return {"words": "the plan names no storage for a kit"}
    kit = RecoveryKit.objects.filter(plan=plan).order_by("-made_at", "-pk").first()
    where = plan.kit_storage.slug
    if kit is None:
        return asdict(Check("kit", "Kit", NOT_READY, f"none was made yet; it goes to {where}"))
    there = open_store(plan.kit_storage).head(kit.key)
    if there is None:
        return asdict(Check("kit", "Kit", NOT_READY, f"{kit.key} is not in {where} any more. Have it made again."))
    return {**asdict(Check("kit", "Kit", READY, f"in {where}")), "made_at": kit.made_at.isoformat()}


SECTIONS: dict[str, Callable[[RecoveryPlan], Facts]] = {
    "uploads": _uploads,
    "database": _database,
    "images": _images,
    "configuration": _configuration,
    "kit": _kit,
}
