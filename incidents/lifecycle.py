"""Every move of an incident: one function, one transaction each, with its timeline entry and its audit entry.

Locks are taken in this order: the senders' (`silence_senders`), the incident's row, its levels and pages, other rows,
and at last the audit trail's.
"""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM, Who, record
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.transitions import said
from controlplane.web.tones import Tone
from incidents import holds, outbox, timeline
from incidents.escalation import plan
from incidents.models import ChecklistItem, Delivery, Grade, Incident, Level, Page, Phase, Severity
from incidents.procedure import grades_of, severity_of, start_checklist
from incidents.timeline import Kind, NewEntry

CLOCK = SYSTEM("clock")
ROLES = {"commander": "commander", "communications": "communications", "scribe": "scribe"}
# PagerDuty's event of an incident is the same from its first page to its end.
TOLD = (Delivery.State.ACCEPTED, Delivery.State.DELIVERED, Delivery.State.SEEN)


def open_incident(
    who: Who,
    *,
    title: str,
    severity: Severity,
    environments: Sequence[str],
    group_key: str = "",
    reason: str = "",
    impact: Grade | None = None,
    urgency: Grade | None = None,
    notify: Sequence[str] = (),
) -> tuple[Incident, bool]:
    """Open an incident with its plan of escalation; whether it is new.

    With a group key, the unresolved incident of that key is returned as it is, whoever opened it first. notify: kinds
    of channels that many people read, told once. Call it in a transaction, or it makes its own. Raises Invalid.
    """
    if not title.strip():
        raise Invalid("Say in a few words what is wrong.")
    graded = grades_of(severity)
    with transaction.atomic():
        fields = {
            "title": title.strip()[:300],
            "severity": severity,
            "impact": impact or graded[0],
            "urgency": urgency or graded[1],
            "environments": sorted(set(environments)),
            "opened_by_name": who.name,
            "policy": plan.snapshot(plan.policy_for(severity)),
        }
        if group_key:
            unresolved = Incident.objects.exclude(state=Incident.State.RESOLVED)
            incident, is_new = unresolved.get_or_create(group_key=group_key, defaults=fields)
        else:
            incident, is_new = Incident.objects.create(**fields), True
        incident = timeline.locked(incident.pk)
        if is_new:
            _begin(incident, who, reason, notify)
    return incident, is_new


def _begin(incident: Incident, who: Who, reason: str, notify: Sequence[str]) -> None:
    """Everything that a new incident sets going, in the transaction that made it."""
    severity = incident.severity
    start_checklist(incident)
    levels = plan.write_levels(incident, incident.opened_at)
    words = f"Opened as {severity}" + (f": {reason}" if reason else "")
    timeline.append(incident, who, NewEntry(Kind.STATE, words, Tone.BAD, data={"severity": severity}))
    if not levels:
        quiet = f"Nobody is paged for {severity}: no escalation policy names it"
        timeline.append(incident, CLOCK, NewEntry(Kind.PAGE, quiet))
    holds.follow(incident)
    for channel in dict.fromkeys(notify):
        outbox.notice(incident, channel, "opened", words)
    record(who, "incident.opened", str(incident), scopes=incident.environments, reason=reason,
           data={"severity": severity})  # fmt: skip


def acknowledge(incident_id: int, who: Who, *, via: str = "", page_id: int | None = None) -> Incident:
    """Somebody has it: the rest of the escalation ends in this transaction, and no page leaves after its commit.

    page_id: the page that was answered; it counts as seen. Raises Conflict when somebody was first, or it is over.
    """
    with transaction.atomic():
        outbox.silence_senders(incident_id)
        incident = timeline.locked(incident_id)
        if page_id is not None:
            _seen(incident, page_id)
        if incident.state == Incident.State.ACKNOWLEDGED:
            raise Conflict(f"{incident.acknowledged_by_name} has acknowledged it already.")
        if incident.state == Incident.State.RESOLVED:
            raise Conflict("It is resolved already.")
        incident.state, incident.acknowledged_by_name = Incident.State.ACKNOWLEDGED, who.name
        Incident.objects.filter(pk=incident.pk).update(
            state=incident.state, acknowledged_at=database_time(), acknowledged_by_name=who.name
        )
        ended = stop_escalation(incident, f"acknowledged by {who.name}")
        words = f"Acknowledged by {who.name}" + (f" {via}" if via else "")
        still = f"; {ended} level{'s' if ended != 1 else ''} will not be paged" if ended else ""
        timeline.append(incident, who, NewEntry(Kind.STATE, words + still, Tone.OK, data={"via": via}))
        if incident.phase == Phase.DETECTION:
            _to_phase(incident, who, Phase.TRIAGE)
        _tell_pagerduty(incident, Delivery.Purpose.ACKNOWLEDGE, words)
        record(who, "incident.acknowledged", str(incident), scopes=incident.environments, data={"via": via})
    return incident


def resolve(incident_id: int, who: Who, resolution: str) -> Incident:
    """It is over. Raises Invalid without words on how, Conflict when it is resolved already."""
    resolution = said(resolution, "Say what resolved it: the post-mortem begins with it.")
    with transaction.atomic():
        outbox.silence_senders(incident_id)
        incident = timeline.locked(incident_id)
        if incident.state == Incident.State.RESOLVED:
            raise Conflict(f"{incident.resolved_by_name} has resolved it already.")
        incident.state, incident.resolution = Incident.State.RESOLVED, resolution
        incident.resolved_by_name = who.name
        Incident.objects.filter(pk=incident.pk).update(
            state=incident.state, resolved_at=Now(), resolved_by_name=who.name, resolution=resolution
        )
        stop_escalation(incident, "resolved")
        words = f"Resolved by {who.name}: {resolution}"
        timeline.append(incident, who, NewEntry(Kind.STATE, words, Tone.OK))
        _to_phase(incident, who, Phase.POST_MORTEM)
        _tell_pagerduty(incident, Delivery.Purpose.RESOLVE, words)
        holds.follow(incident)
        record(who, "incident.resolved", str(incident), scopes=incident.environments, reason=resolution)
    return incident


def assess(incident_id: int, who: Who, impact: Grade, urgency: Grade, reason: str) -> Incident:
    """Severity by impact and urgency, with the reason. A worse one starts the matrix of that severity, from now."""
    reason = said(reason, "Say what the assessment rests on.")
    with transaction.atomic():
        outbox.silence_senders(incident_id)
        incident = _unresolved(incident_id)
        before, severity = incident.severity, severity_of(impact, urgency)
        incident.impact, incident.urgency, incident.severity = impact, urgency, severity
        Incident.objects.filter(pk=incident.pk).update(impact=impact, urgency=urgency, severity=severity)
        words = f"Severity {before} → {severity}: {reason}" if before != severity else f"Stays {severity}: {reason}"
        data = {"before": before, "after": severity, "impact": impact, "urgency": urgency}
        timeline.append(incident, who, NewEntry(Kind.STATE, words, Tone.WAIT, data=data))
        if severity != before:
            _follow_severity(incident, before)
        holds.follow(incident)
        record(who, "incident.assessed", str(incident), scopes=incident.environments, reason=reason, data=data)
    return incident


def move_to(incident_id: int, who: Who, phase: Phase) -> Incident:
    """Go to another phase of the guide's procedure. Raises Conflict when it is in that one."""
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        if incident.phase == phase:
            raise Conflict(f"It is in {phase.label} already.")
        if phase == Phase.POST_MORTEM and not incident.is_resolved:
            raise Invalid("The post-mortem comes after the resolution: resolve the incident first.")
        if incident.is_resolved:
            raise Conflict("It is resolved; only its post-mortem goes on.")
        _to_phase(incident, who, phase)
        record(who, "incident.phase", str(incident), scopes=incident.environments, data={"phase": phase})
    return incident


def give_role(incident_id: int, who: Who, role: str, person: Person | None) -> Incident:
    """Commander, communications or scribe. Raises Invalid for another role."""
    if role not in ROLES:
        raise Invalid(f"There is no role {role}; there are {', '.join(ROLES)}.")
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        Incident.objects.filter(pk=incident.pk).update(**{role: person})
        setattr(incident, role, person)
        words = f"{person.title_name} is {ROLES[role]}" if person else f"Nobody is {ROLES[role]} any more"
        timeline.append(incident, who, NewEntry(Kind.STATE, words, data={"role": role}))
        record(who, "incident.role", str(incident), scopes=incident.environments,
               data={"role": role, "person": person.title_name if person else ""})  # fmt: skip
    return incident


def tick(incident_id: int, who: Who, item_id: int, note: str = "") -> None:
    """Tick a line of the checklist. Raises Conflict when it is ticked already, or is not of this incident."""
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        rows = ChecklistItem.objects.filter(pk=item_id, incident=incident, ticked_at=None)
        item = rows.first()
        if item is None or not rows.update(ticked_at=Now(), ticked_by_name=who.name):
            raise Conflict("This line has been ticked already.")
        words = f"{item.text}" + (f": {said(note)}" if note.strip() else "")
        timeline.append(incident, who, NewEntry(Kind.CHECKLIST, words, Tone.OK, data={"phase": item.phase}))
        record(who, "incident.ticked", str(incident), scopes=incident.environments, data={"line": item.text})


def stop_escalation(incident: Incident, why: str) -> int:
    """End what is still to come, in the caller's transaction; returns how many levels."""
    levels = Level.objects.filter(plan.PENDING, incident=incident)
    ended = levels.update(state=Level.State.CANCELLED, settled_at=Now(), words=why)
    waiting = Q(state__in=[Page.State.QUEUED, Page.State.ACCEPTED])
    pages = Page.objects.filter(incident=incident)
    pages.filter(state=Page.State.QUEUED).update(state=Page.State.CANCELLED, next_way_at=None)
    pages.filter(waiting).update(next_way_at=None)
    Delivery.objects.filter(
        incident=incident, purpose=Delivery.Purpose.PAGE, state__in=[Delivery.State.QUEUED, Delivery.State.SENDING]
    ).update(state=Delivery.State.CANCELLED, next_at=None)
    return ended


def _unresolved(incident_id: int) -> Incident:
    incident = timeline.locked(incident_id)
    if incident.is_resolved:
        raise Conflict("It is resolved already; open a new one if it came back.")
    return incident


def _to_phase(incident: Incident, who: Who, phase: Phase) -> None:
    incident.phase = phase
    Incident.objects.filter(pk=incident.pk).update(phase=phase)
    timeline.append(incident, who, NewEntry(Kind.STATE, f"Phase: {phase.label}", data={"phase": phase}))


def _seen(incident: Incident, page_id: int) -> None:
    page = Page.objects.filter(pk=page_id, incident=incident)
    page.update(state=Page.State.SEEN, seen_at=Now(), next_way_at=None)
    Delivery.objects.filter(page__in=page, state__in=TOLD).update(state=Delivery.State.SEEN, seen_at=Now())


def _follow_severity(incident: Incident, before: str) -> None:
    """Unacknowledged and worse than before: what the matrix of the new severity says, from now."""
    if incident.state != Incident.State.OPEN or incident.severity > before:
        return
    wanted = plan.snapshot(plan.policy_for(incident.severity))
    if not wanted or wanted.get("slug") == incident.policy.get("slug"):
        return
    stop_escalation(incident, f"the matrix of {incident.severity} takes over")
    last = max(Level.objects.filter(incident=incident).values_list("round", flat=True), default=0)
    incident.policy = wanted
    Incident.objects.filter(pk=incident.pk).update(policy=wanted)
    plan.write_levels(incident, database_time(), after_round=last)


def _tell_pagerduty(incident: Incident, purpose: Delivery.Purpose, words: str) -> None:
    """What was triggered there is acknowledged or resolved there, under the same key."""
    told = Delivery.objects.filter(incident=incident, channel="pagerduty", purpose=Delivery.Purpose.PAGE)
    if told.exclude(state=Delivery.State.CANCELLED, attempts=0).exists():
        key = f"incident-{incident.pk}-{purpose}"
        outbox.queue(incident, purpose, "pagerduty", key, outbox.message_of(incident, words))
