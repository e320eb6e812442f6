"""Could a failover be carried out now, and if not, why? Looked at every ten minutes, and before a drill."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta

from django.db import transaction

from backups.disaster.applications import applications
from backups.disaster.assembling import assemble
from backups.disaster.base import NOT_READY, READY, UNKNOWN, Candidate, Check
from backups.disaster.databases import DATABASES
from backups.disaster.prediction import Prediction, predict
from backups.disaster.sides import database_part, sides
from backups.disaster.traffic import TRAFFIC
from backups.disaster.uploads import UPLOADS
from backups.models import Readiness, Recovery, RecoveryPlan
from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from controlplane.operations.errors import Invalid, StepError
from environments.models import ConfigEntry
from environments.secrets import resolve

logger = logging.getLogger(__name__)

EVERY = timedelta(minutes=10)
KEEP = timedelta(days=90)
FRESH = 3 * EVERY  # a look older than this says nothing of now


def look(plan: RecoveryPlan) -> Readiness:
    """Ask everything that a failover would need, and keep what was heard. Network; call it outside a transaction."""
    newest, checks = _database(plan)
    for ask in (_traffic, _uploads, _services, _secrets):
        checks += _asked(ask, plan)
    prediction = _prediction(plan, newest)
    checks.append(_within_rto(plan, prediction))
    with transaction.atomic():
        made = Readiness.objects.create(
            plan=plan,
            ready=all(one.outcome == READY for one in checks),
            checks=[asdict(one) for one in checks],
            restorable_to=newest.as_of if newest else None,
            predicted_seconds=prediction.seconds,
            predicted=prediction.as_json(),
        )
        Readiness.objects.filter(plan=plan, at__lt=database_time() - KEEP).delete()
        transaction.on_commit(lambda: ring("news", "backups environments"))
    made.refresh_from_db()
    return made


def latest(plans: Iterable[RecoveryPlan]) -> dict[int, Readiness | None]:
    """The last look at each plan, by its primary key, in one query."""
    keys = [plan.pk for plan in plans]
    rows = Readiness.objects.filter(plan__in=keys).order_by("plan_id", "-at", "-pk").distinct("plan_id")
    found: dict[int, Readiness | None] = dict.fromkeys(keys)
    return found | {one.plan_id: one for one in rows}


def candidates(plan: RecoveryPlan) -> list[Candidate]:
    """What the database could come back from, the newest first. Raises StepError."""
    found = DATABASES[plan.database["kind"]].candidates(*sides(plan, database_part(plan), plan.serving))
    return sorted(found, key=lambda one: one.as_of, reverse=True)


def _asked(ask: Callable[[RecoveryPlan], Sequence[Check]], plan: RecoveryPlan) -> list[Check]:
    """One part's fault must not hide what the others know."""
    try:
        return list(ask(plan))
    except Exception as error:
        logger.exception("readiness of %s: %s", plan, ask.__name__)
        title = ask.__name__.strip("_").capitalize()
        return [Check(title.lower(), title, UNKNOWN, f"It could not be asked: {type(error).__name__}.")]


def _database(plan: RecoveryPlan) -> tuple[Candidate | None, list[Check]]:
    title = "Something to restore"
    newest: Candidate | None = None
    try:
        newest = next(iter(candidates(plan)), None)
    except StepError as error:
        there = Check("restorable", title, UNKNOWN, str(error))
    except Exception as error:
        logger.exception("readiness of %s: candidates", plan)
        there = Check("restorable", title, UNKNOWN, f"It could not be asked: {type(error).__name__}.")
    else:
        there = _fresh(plan, newest)
    return newest, [there, *_asked(_server, plan)]


def _server(plan: RecoveryPlan) -> Sequence[Check]:
    return DATABASES[plan.database["kind"]].readiness(*sides(plan, database_part(plan), plan.serving))


def _fresh(plan: RecoveryPlan, newest: Candidate | None) -> Check:
    title = "Something to restore"
    if newest is None:
        words = "There is no snapshot, replica or backup that the database could come back from. Make one."
        return Check("restorable", title, NOT_READY, words)
    age = (database_time() - newest.as_of).total_seconds()
    minutes, promised = age / 60, plan.rpo_seconds / 60
    if age > plan.rpo_seconds:
        words = f"{newest.title} is {minutes:.0f} min old, and at most {promised:.0f} min may be lost."
        return Check("restorable", title, NOT_READY, words)
    return Check("restorable", title, READY, f"{newest.title}, {max(0.0, minutes):.0f} min old")


def _traffic(plan: RecoveryPlan) -> Sequence[Check]:
    return TRAFFIC[plan.traffic["kind"]].readiness(*sides(plan, plan.traffic, plan.serving))


def _uploads(plan: RecoveryPlan) -> Sequence[Check]:
    if not plan.uploads:
        return []
    return UPLOADS[plan.uploads["kind"]].readiness(*sides(plan, plan.uploads, plan.serving))


def _services(plan: RecoveryPlan) -> Sequence[Check]:
    """Each service has a place over there, and it is known which software is to be started."""
    title = "Applications"
    try:
        found = applications(plan, plan.serving)
    except Invalid as error:
        return [Check("applications", title, NOT_READY, str(error))]
    unknown = [one.service for one in found if not one.software.version]
    if unknown:
        words = f"Nobody knows what {', '.join(unknown)} runs in {plan.serving.slug}: deploy it there once."
        return [Check("applications", title, NOT_READY, words)]
    words = ", ".join(f"{one.count} × {one.service} {one.software.version}" for one in found)
    return [Check("applications", title, READY, words or "the plan counts none")]


def _secrets(plan: RecoveryPlan) -> Sequence[Check]:
    """Every secret that the other side's variables refer to can be read."""
    title = "Secrets"
    missing = []
    entries = list(ConfigEntry.objects.filter(environment=plan.waiting).exclude(secret=""))
    for entry in entries:
        try:
            resolve(entry.secret)
        except StepError:
            missing.append(entry.key)
    if missing:
        words = f"{plan.waiting.slug} cannot read {', '.join(sorted(missing))}. Put them where the references point."
        return [Check("secrets", title, NOT_READY, words)]
    return [Check("secrets", title, READY, f"all {len(entries)} of {plan.waiting.slug} can be read")]


def _prediction(plan: RecoveryPlan, newest: Candidate | None) -> Prediction:
    try:
        steps = assemble(plan, Recovery.Kind.FAILOVER, newest).steps
    except (Invalid, StepError):
        return Prediction(None, {})
    return predict(plan, steps)


def _within_rto(plan: RecoveryPlan, prediction: Prediction) -> Check:
    title = "In time"
    if prediction.seconds is None:
        return Check("in-time", title, UNKNOWN, "Nobody knows how long it takes: rehearse it once.")
    minutes, promised = prediction.seconds / 60, plan.rto_seconds / 60
    if prediction.seconds > plan.rto_seconds:
        words = f"It would take {minutes:.0f} min, and {promised:.0f} min are promised."
        return Check("in-time", title, NOT_READY, words)
    never = len(prediction.estimated) + len(prediction.unknown)
    guessed = f"; {never} of its steps were never done here" if never else ""
    about = "at least" if prediction.is_least else "about"
    return Check("in-time", title, READY, f"{about} {minutes:.0f} of {promised:.0f} min{guessed}")
