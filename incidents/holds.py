"""A P1 locks its environments against deployments; two people may break the glass for a while.

The way back stays open: rollbacks pass the lock of an incident (`deployments/gates/turn.py`).
"""

from datetime import timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.audit.record import SYSTEM, Who, record
from controlplane.clock.database import database_time
from controlplane.operations import bypasses
from controlplane.operations.bypasses import Part
from controlplane.operations.errors import Conflict, Refused
from controlplane.operations.transitions import said
from controlplane.web.tones import Tone
from environments import locks
from environments.models import Environment, EnvironmentLock
from incidents import timeline
from incidents.models import BreakGlass, Incident, IncidentLock, Severity
from incidents.timeline import Kind, NewEntry

CLOCK = SYSTEM("clock")
OPEN_FOR = timedelta(hours=1)
ASKED_FOR = timedelta(minutes=30)  # after which an unconfirmed wish is dropped
# What is less bad can wait for the rules.
BAD_ENOUGH = (Severity.P1, Severity.P2)


def follow(incident: Incident) -> None:
    """Bring the locks in line with the incident, in the caller's transaction with its row locked."""
    wanted = incident.severity == Severity.P1 and not incident.is_resolved
    held = {one.environment.slug: one for one in incident.locks.select_related("environment")}
    broken = set(_open_glass(incident).values_list("environment__slug", flat=True))
    # All of them before the first entry of the audit trail, whose lock is the last one.
    for environment in locks.hold_still(incident.environments):
        one = held.get(environment.slug)
        if wanted and environment.slug not in broken:
            _close(incident, environment, one)
        elif one is not None and one.lock_id is not None and locks.lift(_who(incident), environment, one.lock_id):
            IncidentLock.objects.filter(pk=one.pk).update(lock=None)
            timeline.append(incident, CLOCK, NewEntry(Kind.CHANGE, f"{environment.slug} may be deployed to again"))
    if incident.is_resolved:
        BreakGlass.objects.filter(incident=incident, ended_at=None).update(ended_at=Now())


def _close(incident: Incident, environment: Environment, one: IncidentLock | None) -> None:
    if one is not None and one.lock_id is not None:
        return  # also when somebody has released it by hand: their word counts
    reason = f"P1, incident {incident.pk}: {incident.title}"[:300]
    lock = locks.put(_who(incident), environment, reason, EnvironmentLock.Against.DEPLOYMENTS)
    IncidentLock.objects.update_or_create(incident=incident, environment=environment, defaults={"lock": lock})
    words = f"{environment.slug} is locked against deployments; rollbacks are open"
    timeline.append(incident, CLOCK, NewEntry(Kind.CHANGE, words, Tone.WAIT))


def _who(incident: Incident) -> Who:
    return SYSTEM(f"incident {incident.pk}")


def _open_glass(incident: Incident) -> QuerySet[BreakGlass]:
    return BreakGlass.objects.filter(incident=incident, ended_at=None, confirmed_at__isnull=False)


# --- Break-glass --------------------------------------------------------------------------------------


def ask(incident_id: int, actor: Actor, environment: Environment, reason: str) -> BreakGlass:
    """Wish to deploy in spite of the lock and of what the policy there asks for.

    Raises Invalid without a reason, Conflict when one is open already, the incident is not about the environment, or
    is not bad enough.
    """
    reason = said(reason, "Say why it cannot wait until the incident is over.")
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        if incident.is_resolved or environment.slug not in incident.environments:
            raise Conflict(f"This incident is no reason to break the glass for {environment.slug}.")
        _check_severity(incident)
        if BreakGlass.objects.filter(incident=incident, environment=environment, ended_at=None).exists():
            raise Conflict("Somebody has asked for it already: confirm that, or wait until it expires.")
        glass = BreakGlass.objects.create(
            incident=incident, environment=environment, reason=reason, asked_by=actor.person,
            asked_by_name=actor.who.name,
        )  # fmt: skip
        words = f"Break-glass for {environment.slug} asked for: {reason}"
        timeline.append(incident, actor.who, NewEntry(Kind.CHANGE, words, Tone.WAIT))
        record(actor.who, "incident.break_glass_asked", str(incident), scopes=[environment.slug], reason=reason)
    return glass


def _check_severity(incident: Incident) -> None:
    if incident.severity not in BAD_ENOUGH:
        words = f"Only a P1 or P2 is a reason to break the glass, and this incident is a {incident.severity}."
        raise Conflict(f"{words} Assess it anew if it is worse than that.")


def confirm(incident_id: int, actor: Actor, glass_id: int) -> BreakGlass:
    """The second person's word: the lock is lifted for an hour. Raises Refused for the one who asked, Conflict."""
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        # The clock drops what was asked for too long ago; a word that comes before it does is late all the same.
        rows = BreakGlass.objects.filter(
            pk=glass_id, incident=incident, ended_at=None, confirmed_at=None,
            asked_at__gt=database_time() - ASKED_FOR,
        )  # fmt: skip
        glass = rows.select_related("environment").first()
        if glass is None:
            raise Conflict("There is nothing to confirm any more.")
        if glass.asked_by_id == actor.person.pk:
            raise Refused("You asked for it; somebody else has to confirm it.")
        _check_severity(incident)  # it may have been assessed as less since
        until = database_time() + OPEN_FOR
        rows.update(confirmed_by_name=actor.who.name, confirmed_at=Now(), expires_at=until)
        words = f"Glass broken for {glass.environment.slug} until {until:%H:%M} UTC: {glass.reason}"
        timeline.append(incident, actor.who, NewEntry(Kind.CHANGE, words, Tone.BAD))
        follow(incident)
        bypasses.note(
            f"glass {glass.pk}",
            what=f"Glass broken for {glass.environment.slug}, incident {incident.pk}: {incident.title}",
            url=incident.get_absolute_url(),
            scopes=[glass.environment.slug],
            reason=glass.reason,
            people=[Part(glass.asked_by_id, glass.asked_by_name), Part(actor.person.pk, actor.who.name)],
            until=until,
        )
        record(actor.who, "incident.break_glass", str(incident), scopes=[glass.environment.slug], reason=glass.reason,
               data={"asked by": glass.asked_by_name, "confirmed by": actor.who.name, "until": until})  # fmt: skip
    return glass


def end_broken() -> int:
    """Close again what was broken for long enough, drop wishes that nobody confirmed; the clock calls it."""
    now = database_time()
    over = BreakGlass.objects.filter(ended_at=None).filter(
        Q(expires_at__lte=now) | Q(confirmed_at=None, asked_at__lte=now - ASKED_FOR)
    )
    ended = 0
    for glass in over.select_related("environment"):
        with transaction.atomic():
            incident = timeline.locked(glass.incident_id)
            if not BreakGlass.objects.filter(pk=glass.pk, ended_at=None).update(ended_at=Now()):
                continue
            ended += 1
            words = f"Break-glass for {glass.environment.slug} is over"
            timeline.append(incident, CLOCK, NewEntry(Kind.CHANGE, words))
            follow(incident)
    return ended
