"""The demo of `bin/run`: something to break and to mend again, and a finished incident with a deployment to blame."""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM, Who, record
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.models import Approval, Operation, Step
from controlplane.operations.states import State, StepState
from controlplane.web.tones import Tone
from deployments.demo import Hand, start_missing
from deployments.models import Deployment, Release
from deployments.services import Draft, draft, request_deployment, software_of
from deployments.strategies.rolling import rolling_plan
from deployments.strategies.situation import Situation
from environments.drivers import DRIVERS
from environments.drivers.local.driver import folder_of
from environments.drivers.local.steps import instance_folder
from environments.models import HealthSample, Placement
from environments.targets import target_of
from incidents import timeline
from incidents.escalation import plan
from incidents.models import Channel, ChecklistItem, Incident, Level, Page, Phase, Severity
from incidents.procedure import grades_of, start_checklist
from incidents.timeline import Kind, NewEntry

DEMO = SYSTEM("demo")
ENVIRONMENT = "production"
REASON = "demo: search is twice as quick"
AGO = timedelta(hours=3)  # when the sample incident opened


@dataclass(frozen=True)
class Breakable:
    """One instance of the demo that a visitor may kill."""

    name: str
    runs: bool


def breakable() -> list[Breakable]:
    """The instances of production that one may break here; none outside of the demo."""
    placement = _placement()
    if placement is None:
        return []
    target = target_of(placement)
    return [Breakable(one.name, instance_folder(folder_of(target, one)).occupied) for one in target.instances]


def break_instance(who: Who, name: str) -> None:
    """Kill one instance as an accident would: no operation, no warning. Raises Refused outside of the demo."""
    placement = _needed()
    for instance in target_of(placement).instances:
        folder = instance_folder(folder_of(target_of(placement), instance))
        if instance.name == name:
            if not folder.kill(Hand()):
                raise Conflict(f"{name} does not run.")
            _record(who, "demo.broken", name)
            return
    raise Invalid(f"There is no instance {name} in {ENVIRONMENT}.")


def mend(who: Who) -> None:
    """Start what was killed again. Raises Refused outside of the demo."""
    start_missing(_needed())
    _record(who, "demo.mended", ENVIRONMENT)


def _record(who: Who, action: str, target: str) -> None:
    with transaction.atomic():
        record(who, action, target, scopes=[ENVIRONMENT], reason="to see what happens")


def _placement() -> Placement | None:
    if not settings.DEMO:
        return None
    placements = Placement.objects.filter(environment__slug=ENVIRONMENT, environment__driver="local")
    return placements.select_related("environment", "service").exclude(version="").first()


def _needed() -> Placement:
    placement = _placement()
    if placement is None:
        raise Refused("Only the demo of bin/run may be broken on purpose.")
    return placement


# --- The finished incident ----------------------------------------------------------------------------


def prepare() -> None:
    """Make the keys that are missing, and the sample, once; a person's own incidents are never touched."""
    _make_keys()
    placement = _placement()
    alice, bob = (Person.objects.filter(username=name).first() for name in ("alice", "bob"))
    release = Release.objects.filter(version="1.5.0").first()
    if placement is None or alice is None or bob is None or release is None or Incident.objects.exists():
        return
    before = Release.objects.filter(service=placement.service, digest=placement.digest).first()
    if before is None or before.pk == release.pk:
        return  # somebody has moved production on already
    opened = database_time() - AGO
    with transaction.atomic():
        for one, age in ((before, timedelta(days=1)), (release, timedelta(hours=5))):
            Release.objects.filter(pk=one.pk, created_at__gt=opened - age).update(created_at=opened - age)
        _samples(placement, opened)
        forth = _deployment(alice, bob, placement, release, at=opened - timedelta(minutes=4, seconds=9))
        back = _deployment(bob, alice, placement, before, at=opened + timedelta(minutes=14), came_from=release)
        _incident(alice, bob, opened, forth, back)


def _make_keys() -> None:
    """Whatever the channels refer to; the recording provider takes any key."""
    folder = Path(settings.DATA_DIR) / "secrets"
    references = [str(value) for one in Channel.objects.all() for value in one.settings.values()]
    for reference in references:
        path = folder / reference.removeprefix("file:")
        if reference.startswith("file:") and not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))


def _deployment(
    asks: Person, approves: Person, placement: Placement, to: Release, *, at: datetime, came_from: Release | None = None
) -> Operation:
    """One that succeeded at that time, with the plan that it would have had."""
    made = _draft_from(placement, came_from, to) if came_from else draft(placement.environment, to)
    kind = Deployment.Kind.ROLLBACK if came_from else Deployment.Kind.DEPLOY
    reason = REASON if not came_from else "demo: errors since 1.5.0"
    operation = request_deployment(
        Actor(asks, via="demo"), environment=placement.environment, release=to, reason=reason, kind=kind, made=made
    )
    finished = at + timedelta(seconds=66)
    Approval.objects.create(
        operation=operation, person=approves, person_name=approves.title_name, decision=Approval.Decision.APPROVED,
        plan_digest=operation.plan_digest, at=at,
    )  # fmt: skip
    steps = list(Step.objects.filter(operation=operation, phase=Step.Phase.MAIN).order_by("position"))
    each = (finished - at) / len(steps)
    for number, step in enumerate(steps):
        step.state, step.attempt = StepState.SUCCEEDED, 1
        step.started_at, step.finished_at = at + number * each, at + (number + 1) * each
    Step.objects.bulk_update(steps, ["state", "attempt", "started_at", "finished_at"])
    Operation.objects.filter(pk=operation.pk).update(
        state=State.SUCCEEDED, requested_at=at - timedelta(minutes=3), queued_at=at, started_at=at,
        finished_at=finished, outcome=f"{to.version} runs on every instance",
    )  # fmt: skip
    operation.refresh_from_db()
    return operation


def _draft_from(placement: Placement, runs: Release, to: Release) -> Draft:
    """As if `runs` ran everywhere."""
    made = draft(placement.environment, runs)
    running = [replace(one, version=runs.version, digest=runs.digest, image=runs.image) for one in made.running]
    driver = DRIVERS[placement.environment.driver]
    way = rolling_plan(driver, Situation(target_of(placement), running, driver.name), software_of(to))
    return replace(made, release=to, kind=Deployment.Kind.ROLLBACK, running=running, plan=way, gates=[])


def _samples(placement: Placement, opened: datetime) -> None:
    """What the probes would have heard: quick and well, then slow and failing, then well again."""
    rows = []
    for number in range(-120, 120):
        at = opened + timedelta(seconds=30 * number)
        bad = timedelta(minutes=-3) < at - opened < timedelta(minutes=15)
        for place, instance in enumerate(placement.instances):
            fails = bad and (number + place) % 3 == 0
            latency = (610.0 if bad else 12.0) + (number * 7 + place * 3) % 19
            rows.append(HealthSample(
                placement=placement, instance=instance["name"], at=at, healthy=not fails, in_rotation=True,
                status=503 if fails else 200, latency_ms=latency, version="1.5.0" if bad else "1.4.0",
                words=f"{placement.health_path} answered {503 if fails else 200} in {latency:.0f} ms",
            ))  # fmt: skip
    HealthSample.objects.bulk_create(rows)


def _incident(alice: Person, bob: Person, opened: datetime, forth: Operation, back: Operation) -> None:
    impact, urgency = grades_of(Severity.P1)
    resolved = opened + timedelta(minutes=21)
    incident = Incident.objects.create(
        title="API error rate 12 % in production", severity=Severity.P1, impact=impact, urgency=urgency,
        environments=[ENVIRONMENT], opened_at=opened, opened_by_name="system: alerts", alert_count=41,
        last_alert_at=opened + timedelta(minutes=13), policy=plan.snapshot(plan.policy_for(Severity.P1)),
        notified_at=opened + timedelta(seconds=1), commander=bob, scribe=alice,
        state=Incident.State.RESOLVED, phase=Phase.POST_MORTEM,
        acknowledged_at=opened + timedelta(minutes=6, seconds=28), acknowledged_by_name=bob.title_name,
        resolved_at=resolved, resolved_by_name=bob.title_name,
        resolution="Rolled back to 1.4.0; the error rate has been below 0.1 % for five minutes.",
    )  # fmt: skip
    start_checklist(incident)
    ChecklistItem.objects.filter(incident=incident).exclude(phase=Phase.POST_MORTEM).update(
        ticked_at=resolved, ticked_by_name=bob.title_name
    )
    _levels(incident, bob, opened)
    alices, bobs = Who(alice.title_name, alice.pk, "demo"), Who(bob.title_name, bob.pk, "demo")
    for who, entry in _story(incident, opened, forth, back):
        timeline.append(incident, {"alice": alices, "bob": bobs}.get(who, SYSTEM(who)), entry)
    record(DEMO, "incident.sampled", str(incident), scopes=[ENVIRONMENT], reason="something to review in the demo")


def _levels(incident: Incident, bob: Person, opened: datetime) -> None:
    for level in plan.write_levels(incident, opened):
        fired = level.due_at == opened
        Level.objects.filter(pk=level.pk).update(
            state=Level.State.FIRED if fired else Level.State.CANCELLED,
            settled_at=opened if fired else incident.acknowledged_at,
            words=f"pages {bob.title_name} by pagerduty" if fired else f"acknowledged by {bob.title_name}",
        )
        if fired:
            Page.objects.create(
                incident=incident, level=level, person=bob, person_name=bob.title_name, state=Page.State.SEEN,
                ways=[{"channel": "pagerduty", "address": ""}], queued_at=opened,
                accepted_at=opened + timedelta(seconds=1), delivered_at=opened + timedelta(seconds=2),
                seen_at=incident.acknowledged_at,
            )  # fmt: skip


def _story(incident: Incident, opened: datetime, forth: Operation, back: Operation) -> list[tuple[str, NewEntry]]:
    """Who did what when; the entries are filled in, so they say both times."""

    def entry(
        who: str, seconds: int, kind: Kind, text: str, tone: Tone = Tone.IDLE, **data: object
    ) -> tuple[str, NewEntry]:
        return who, NewEntry(kind, text, tone, opened + timedelta(seconds=seconds), data)

    return [
        entry("control plane", -183, Kind.OPERATION, f"{forth.title}: succeeded", Tone.OK, operation=forth.pk),
        entry("alerts", 0, Kind.ALERT, "HighErrorRate: error_rate 0.12 > 0.05 for 5 m, production", Tone.BAD),
        entry("alerts", 0, Kind.STATE, "Opened as P1: rule critical", Tone.BAD, severity="P1"),
        entry("alerts", 0, Kind.CHANGE, "production is locked against deployments; rollbacks are open", Tone.WAIT),
        entry("clock", 1, Kind.PAGE, f"L1 pages {incident.commander} by pagerduty", Tone.BUSY, level=1),
        entry("clock", 2, Kind.PAGE, f"{incident.commander}: accepted after 0.3 s, delivered after 2.1 s", Tone.OK),
        entry("alerts", 240, Kind.ALERT, "HighErrorRate fires on 40 more; 41 in all", Tone.BAD),
        entry("bob", 388, Kind.STATE, f"Acknowledged by {incident.commander}; 3 levels will not be paged", Tone.OK),
        entry("bob", 388, Kind.STATE, "Phase: Triage", phase="triage"),
        entry("bob", 452, Kind.CHECKLIST, "Severity assessed (P1–P4): checkout answers 500 in all regions", Tone.OK),
        entry("alice", 520, Kind.NOTE, "Every second search answers 503. The pool is fine: 87 of 200 connections."),
        entry("bob", 610, Kind.STATE, "Phase: Response", phase="response"),
        entry("bob", 655, Kind.NOTE, "It began three minutes after 1.5.0 went out. Rolling back."),
        entry("control plane", 906, Kind.OPERATION, f"{back.title}: succeeded", Tone.OK, operation=back.pk),
        entry("alerts", 960, Kind.ALERT, "All its alerts are over", Tone.OK),
        entry("bob", 1260, Kind.STATE, f"Resolved by {incident.commander}: {incident.resolution}", Tone.OK),
        entry("bob", 1260, Kind.STATE, "Phase: Post-mortem", phase="post-mortem"),
    ]
