"""The seeded faults of `test_auditor_mutations.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from environments.models import EnvironmentLock
from incidents import holds, lifecycle, timeline
from incidents.escalation import clock, plan
from incidents.intake import grouping, handling
from incidents.models import (
    Alert,
    AlertRule,
    AlertSource,
    BreakGlass,
    ChecklistItem,
    Delivery,
    Incident,
    IncidentLock,
    IncidentRule,
    Level,
    Page,
    Postmortem,
    RawAlert,
    RuleState,
    Severity,
)
from tests.incidents.auditor_world import TEST, World, accept, deliver, pass_time

Patch = pytest.MonkeyPatch
Before = Callable[[World], Incident | None]
Seed = Callable[[World, Incident | None, Patch], object]


@dataclass(frozen=True)
class Fault:
    """before: a healthy state. seed: the bug. caught_by: names of invariants, any of which will do."""

    name: str
    part: str
    before: Before
    seed: Seed
    caught_by: tuple[str, ...]


# --- healthy states -------------------------------------------------------------------------------------


def nothing(world: World) -> None:
    """Nothing is open."""


def opened(world: World) -> Incident:
    """Just opened; nobody has been paged yet."""
    return world.open()


def paged(world: World) -> Incident:
    """The first level was paged, and its provider took it."""
    incident = world.open()
    world.engine()
    return incident


def received(world: World) -> Incident:
    """The page has arrived on the telephone, and nobody answers it; the next level is due in 30 s."""
    incident = paged(world)
    deliver(Page.objects.get(incident=incident))
    pass_time(870)
    return incident


def followed(world: World) -> Incident:
    """No receipt came, and the next channel was tried: PagerDuty."""
    incident = paged(world)
    pass_time(61)
    world.engine()
    return incident


def unsent(world: World) -> Incident:
    """The page is in the outbox."""
    incident = world.open()
    clock.fire_due()
    return incident


def acknowledged(world: World) -> Incident:
    """Somebody has it."""
    incident = paged(world)
    lifecycle.acknowledge(incident.pk, TEST)
    world.engine()
    return incident


def resolved(world: World) -> Incident:
    """It is over, and its post-mortem is drafted."""
    incident = acknowledged(world)
    lifecycle.resolve(incident.pk, TEST, "started it again")
    world.engine()
    return incident


# --- ways to break it -----------------------------------------------------------------------------------


def rows(change: Callable[[Incident], object]) -> Seed:
    """A change of rows."""
    return lambda world, incident, patch: change(_sure(incident))


def disabled(target: object, name: str, then: Callable[[World, Incident | None], object], result: Any = 0) -> Seed:
    """A part of the engine that does nothing, and what is done with it then."""

    def seed(world: World, incident: Incident | None, patch: Patch) -> None:
        patch.setattr(target, name, lambda *_, **__: result)
        then(world, incident)

    return seed


def _sure(incident: Incident | None) -> Incident:
    assert incident is not None
    return incident


def _levels(incident: Incident, **which: Any) -> Any:
    return Level.objects.filter(incident=incident, **which)


def _deliveries(incident: Incident) -> Any:
    return Delivery.objects.filter(incident=incident)


def _pages(incident: Incident) -> Any:
    return Page.objects.filter(incident=incident)


def _open(world: World, _: Incident | None) -> Incident:
    return world.open()


def _engine(world: World, _: Incident | None) -> None:
    world.engine()


def _late_engine(world: World, _: Incident | None) -> None:
    pass_time(31)
    world.engine()


def _acknowledge(world: World, incident: Incident | None) -> None:
    lifecycle.acknowledge(_sure(incident).pk, TEST)


def _acknowledge_and_send(world: World, incident: Incident | None) -> None:
    """What is in the outbox all the same leaves at once."""
    _acknowledge(world, incident)
    accept(purpose="page")


def _resolve(world: World, incident: Incident | None) -> None:
    lifecycle.resolve(_sure(incident).pk, TEST, "started it again")


def _send_late(incident: Incident) -> None:
    """A sender that was frozen goes on after the acknowledgement, and does not look."""
    _deliveries(incident).update(state="sending", lease_until=Now())
    lifecycle.acknowledge(incident.pk, TEST)
    _deliveries(incident).filter(purpose="page").update(state="accepted", accepted_at=Now())


def alerted(world: World) -> None:
    """An alert is stored, and nobody has looked at it."""
    source = AlertSource.objects.create(slug="monitoring", kind="plain")
    IncidentRule.objects.create(slug="all", group_by=["alertname"], severity="P1")
    RawAlert.objects.create(source=source, body=b'{"name": "Down", "environment": "production"}')


def _explode(*_: object, **__: object) -> None:
    raise RuntimeError("a fault of the engine")


def _kept_failing(world: World, incident: Incident | None, patch: Patch) -> None:
    """Each attempt fails, until it is given up."""
    patch.setattr(handling, "keep", _explode)
    for _ in range(handling.ATTEMPTS):
        handling.handle_stored()
        pass_time(17)


def _telling_failing(world: World, incident: Incident | None, patch: Patch) -> None:
    patch.setattr(grouping, "tell", _explode)
    world.engine()


def _wait_long(incident: Incident) -> None:
    """The next channel has its turn in an hour."""
    _pages(incident).update(next_way_at=Now() + timedelta(hours=1))
    pass_time(60)


def ruled(world: World) -> None:
    """A rule is evaluated."""
    rule = AlertRule.objects.create(slug="errors", name="HighErrorRate", condition="error_rate > 0.05")
    RuleState.objects.create(rule=rule, environment=world.production, evaluated_at=Now(),
                             due_at=Now() + timedelta(seconds=10))  # fmt: skip
    pass_time(10)


def _forge(incident: Incident, **values: Any) -> None:
    """Somebody who may switch the trigger off changes an entry."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        incident.timeline.filter(seq=2).update(**values)
        cursor.execute("SET LOCAL session_replication_role = origin")


def _twin(incident: Incident) -> None:
    """The constraint is gone, and two clocks open one each."""
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX incident_once_for_a_group")
    key, incident.group_key = incident.group_key, ""
    twin, _ = lifecycle.open_incident(TEST, title="twin", severity=Severity.P2, environments=[])
    Incident.objects.filter(pk=twin.pk).update(group_key=key)


def _untold_state(incident: Incident) -> None:
    Incident.objects.filter(pk=incident.pk).update(
        state="acknowledged", acknowledged_at=Now(), acknowledged_by_name="erin"
    )
    lifecycle.stop_escalation(incident, "acknowledged")


def _break_glass(world: World, incident: Incident | None) -> None:
    """Two people open it, its hour goes by, and nobody closes it."""
    glass = BreakGlass.objects.create(
        incident=_sure(incident), environment=world.production, reason="a fix", asked_by_name="erin",
        confirmed_at=Now(), confirmed_by_name="frank", expires_at=Now(),
    )  # fmt: skip
    assert glass.pk


def _pass_over(incident: Incident) -> None:
    _levels(incident, number=1, round=1).update(state="passed", settled_at=Now(), words="2 levels were due at once")


def _fail(incident: Incident) -> None:
    """The provider refuses for good, and the page is not told."""
    _deliveries(incident).update(state="failed", permanent=True, error="no such number", next_at=None)
    _pages(incident).update(next_way_at=None)


def _wrong_timeline(incident: Incident) -> None:
    Incident.objects.filter(pk=incident.pk).update(last_seq=F("last_seq") + 1)


FAULTS = [
    # intake
    Fault("the handler of alerts is dead", "intake", alerted, disabled(handling, "handle_stored", _engine),
          ("alert-waiting",)),
    Fault("handling fails until it is given up", "intake", alerted, _kept_failing, ("alert-failed",)),
    Fault("incidents hear of no alert", "intake", alerted, disabled(grouping, "group_due", _engine), ("alert-untold",)),
    Fault("telling fails, and is put off for ever", "intake", alerted, _telling_failing, ("alert-untold",)),
    Fault("an alert is not due", "intake", alerted,
          lambda w, i, p: (handling.handle_stored(), Alert.objects.update(due_at=None)), ("alert-untold",)),
    Fault("rules are not evaluated", "intake", ruled, lambda w, i, p: None, ("rules-silent",)),
    Fault("one cause opens two incidents", "intake", paged, rows(_twin), ("group-twice",)),
    # opening
    Fault("no level is written", "opening", nothing, disabled(plan, "write_levels", _open, []),
          ("escalation-ended", "level-missing")),
    Fault("one level is lost", "opening", opened, rows(lambda i: _levels(i, number=3).delete()), ("level-missing",)),
    Fault("the repetition is lost", "opening", opened, rows(lambda i: _levels(i, round=2).delete()),
          ("level-missing",)),
    Fault("levels count from another time", "opening", opened,
          rows(lambda i: _levels(i, number=2).update(due_at=F("due_at") + timedelta(seconds=60))),
          ("level-planned-late",)),
    Fault("the opening is not told", "opening", nothing, disabled(timeline, "append", _open, []), ("state-untold",)),
    Fault("the checklist is lost", "opening", opened,
          rows(lambda i: ChecklistItem.objects.filter(incident=i).delete()), ("checklist-missing",)),
    # timer
    Fault("the timer never fires", "timer", opened, disabled(clock, "fire_due", _engine), ("level-overdue",)),
    Fault("the timer stops after the first level", "timer", received, disabled(clock, "fire_due", _late_engine),
          ("level-overdue",)),
    Fault("a level counts as paged without a page", "timer", opened,
          rows(lambda i: _levels(i, number=1).update(state="fired", settled_at=Now())), ("level-silent",)),
    Fault("the page is lost", "timer", unsent, rows(lambda i: _pages(i).delete()), ("level-silent",)),
    Fault("a level is passed over for none", "timer", opened, rows(_pass_over), ("level-passed",)),
    Fault("the page is not told", "timer", unsent,
          rows(lambda i: _levels(i, state="fired").update(settled_at=Now() + timedelta(seconds=60))),
          ("level-untold",)),
    Fault("levels are cancelled while nobody has it", "timer", paged,
          rows(lambda i: _levels(i, state="pending").update(state="cancelled")), ("level-missing",)),
    Fault("the next level is cancelled alone", "timer", paged,
          rows(lambda i: _levels(i, number=2, round=1).update(state="cancelled")), ("level-missing",)),
    Fault("levels settle as skipped", "timer", paged,
          rows(lambda i: (_levels(i, state="pending").update(state="skipped"),
                          _pages(i).update(next_way_at=None))), ("escalation-ended", "page-left-alone")),
    # outbox
    Fault("a page without a delivery", "outbox", nothing,
          lambda w, i, p: (p.setattr(Delivery.objects, "bulk_create", lambda *_: None), w.open(), clock.fire_due()),
          ("page-undelivered",)),
    Fault("a delivery is lost", "outbox", unsent, rows(lambda i: _deliveries(i).delete()), ("page-undelivered",)),
    Fault("a delivery is written twice", "outbox", unsent,
          rows(lambda i: Delivery.objects.create(incident=i, page=_pages(i).get(), purpose="page", channel="sms",
                                                 key="another")), ("page-doubled",)),
    Fault("the next channel's delivery is lost", "outbox", paged,
          rows(lambda i: _pages(i).update(way=1)), ("page-undelivered",)),
    # sender
    Fault("the senders are dead", "sender", unsent,
          lambda w, i, p: p.setattr("tests.incidents.auditor_world.accept", lambda **_: 0),
          ("delivery-waiting", "nobody-notified")),
    Fault("a delivery is due never", "sender", unsent, rows(lambda i: _deliveries(i).update(next_at=None)),
          ("delivery-waiting",)),
    Fault("a sender died, and nobody takes over", "sender", unsent,
          rows(lambda i: _deliveries(i).update(state="sending", lease_until=Now())), ("delivery-stuck",)),
    Fault("a delivery is tried for ever", "sender", unsent,
          rows(lambda i: _deliveries(i).update(state="sending", lease_until=Now() + timedelta(hours=1),
                                               give_up_at=Now())), ("delivery-stuck",)),
    Fault("every provider refuses, and nobody is told", "sender", unsent, rows(_fail),
          ("page-left-alone", "nobody-notified")),
    Fault("that nobody was notified is not told", "sender", unsent,
          disabled(clock, "tell_of_silence", lambda w, i: _fail(_sure(i))),
          ("silence-untold",)),
    # receipts
    Fault("the page does not hear of its acceptance", "receipts", unsent,
          rows(lambda i: (_deliveries(i).update(state="accepted", accepted_at=Now()),
                          Incident.objects.filter(pk=i.pk).update(notified_at=Now()))), ("acceptance-lost",)),
    Fault("the incident does not hear of its acceptance", "receipts", paged,
          rows(lambda i: Incident.objects.filter(pk=i.pk).update(notified_at=None)), ("acceptance-lost",)),
    Fault("the next channel is never tried", "receipts", paged,
          disabled(clock, "follow_up", lambda w, i: pass_time(60)), ("page-left-alone",)),
    Fault("the next channel is forgotten", "receipts", paged, rows(lambda i: _pages(i).update(next_way_at=None)),
          ("page-left-alone",)),
    Fault("the wait for a receipt is far too long", "receipts", paged,
          rows(_wait_long), ("receipt-late",)),
    # acknowledge
    Fault("acknowledging does not end the levels", "acknowledge", paged,
          disabled(lifecycle, "stop_escalation", _acknowledge), ("level-left",)),
    Fault("acknowledging leaves the outbox", "acknowledge", unsent,
          disabled(lifecycle, "stop_escalation", _acknowledge), ("outbox-left",)),
    Fault("one level is left", "acknowledge", acknowledged,
          rows(lambda i: _levels(i, number=3, round=1).update(state="pending")), ("level-left",)),
    Fault("acknowledging leaves the next channel", "acknowledge", acknowledged,
          rows(lambda i: _pages(i).update(next_way_at=Now())), ("outbox-left",)),
    Fault("a page leaves after the acknowledgement", "acknowledge", unsent,
          disabled(lifecycle, "stop_escalation", _acknowledge_and_send), ("page-after-acknowledgement",)),
    Fault("a frozen sender sends after the acknowledgement", "acknowledge", unsent, rows(_send_late),
          ("page-after-acknowledgement",)),
    Fault("acknowledging is not told", "acknowledge", paged, rows(_untold_state), ("state-untold",)),
    Fault("PagerDuty is not told", "acknowledge", followed, disabled(lifecycle, "_tell_pagerduty", _acknowledge),
          ("pagerduty-untold",)),
    Fault("resolving does not end the levels", "acknowledge", paged, disabled(lifecycle, "stop_escalation", _resolve),
          ("level-left",)),
    # timeline
    Fault("the head's number is wrong", "timeline", paged, rows(_wrong_timeline), ("timeline-head",)),
    Fault("the head's hash is wrong", "timeline", paged,
          rows(lambda i: Incident.objects.filter(pk=i.pk).update(head_hash="0" * 64)), ("timeline-head",)),
    Fault("an entry is changed", "timeline", nothing,
          lambda w, i, p: _forge(paged(w), text="nothing happened"), ("timeline-chain",)),
    Fault("the chain is cut", "timeline", nothing,
          lambda w, i, p: _forge(paged(w), previous_hash="1" * 64), ("timeline-chain",)),
    # locks
    Fault("a P1 takes no lock", "locks", nothing, disabled(holds, "follow", _open, None), ("lock-missing",)),
    Fault("the lock is lost", "locks", paged, rows(lambda i: EnvironmentLock.objects.all().delete()),
          ("lock-missing",)),
    Fault("the lock's row is lost", "locks", paged, rows(lambda i: IncidentLock.objects.all().delete()),
          ("lock-missing",)),
    Fault("the lock is left behind", "locks", acknowledged, disabled(holds, "follow", _resolve, None), ("lock-left",)),
    Fault("broken glass stays open", "locks", paged, disabled(holds, "end_broken", _break_glass), ("glass-open",)),
    # clock and lessons
    Fault("every clock is dead", "clock", paged, lambda w, i, p: setattr(w, "clocks_run", False), ("clock-silent",)),
    Fault("no post-mortem is drafted", "lessons", acknowledged,
          disabled(Postmortem.objects, "create", _resolve),
          ("postmortem-missing",)),
]  # fmt: skip
