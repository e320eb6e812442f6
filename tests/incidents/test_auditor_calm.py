"""Healthy histories raise no alarm, however people, providers and receipts come together."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations.errors import OperationError
from incidents import holds, lifecycle, notes
from incidents.escalation import hand
from incidents.models import BreakGlass, Delivery, Grade, Incident, Level, Page, Severity
from tests.incidents.auditor_world import TEST, World, accept, build, deliver, pass_time

pytestmark = pytest.mark.django_db

HISTORIES = 25  # in each of the runs below, beside each other
STEPS = 36


def test_an_arc_raises_no_alarm() -> None:
    world = build()
    incident = world.open()
    assert world.look() == {}
    world.engine()
    pass_time(5)
    assert world.look() == {}
    deliver(Page.objects.get(incident=incident))
    lifecycle.acknowledge(incident.pk, TEST, page_id=Page.objects.get(incident=incident).pk)
    world.engine()
    pass_time(3600)
    assert world.look() == {}
    lifecycle.resolve(incident.pk, TEST, "started it again")
    world.engine()
    pass_time(60)
    assert world.look() == {}


@pytest.mark.parametrize("seed", range(8))
def test_random_histories_raise_no_alarm(seed: int, alice: Person, bob: Person) -> None:
    history = History(build(), random.Random(seed), [Actor(alice), Actor(bob)])
    for step in range(STEPS):
        history.step()
        found = history.world.look()
        assert found == {}, f"step {step}: {history.done[-12:]}"
    assert len({name for name, _ in history.done}) > 10, "hardly anything happened"


class History:
    """Many incidents at once, to which everything happens that may."""

    def __init__(self, world: World, choice: random.Random, actors: list[Actor]) -> None:
        self.world = world
        self.choice = choice
        self.actors = actors
        self.opened = 0
        self.done: list[tuple[str, int]] = []

    def step(self) -> None:
        """Time passes, the engine goes on, providers are slow but answer, and people do things."""
        pass_time(self.choice.choice([0.5, 3, 8, 8, 8, 70, 901]))
        self.world.engine()
        for _ in range(self.choice.randint(1, 4)):
            self.act()
        self._before_it_ends()
        if self.choice.random() < 0.5:
            accept()

    def act(self) -> None:
        """One thing that somebody or something does; what comes too late is refused."""
        if self.opened < HISTORIES and self.choice.random() < 0.4:
            self.opened += 1
            incident = self.world.open(
                self.choice.choice([Severity.P1, Severity.P2, Severity.P3]), f"cause {self.opened}"
            )
            self.done.append(("open", incident.pk))
            return
        going = list(Incident.objects.exclude(state="resolved").order_by("pk"))
        if not going:
            return
        incident = self.choice.choice(going)
        action = self.choice.choice(ACTIONS)
        with suppress(OperationError):
            action(self, incident)
            self.done.append((action.__name__, incident.pk))

    def _before_it_ends(self) -> None:
        """Somebody acknowledges before there is nobody else to page."""
        for incident in Incident.objects.filter(state="open"):
            if Level.objects.filter(incident=incident, state="pending").count() < 2:
                acknowledge(self, incident)


def acknowledge(history: History, incident: Incident) -> None:
    page = Page.objects.filter(incident=incident).first()
    lifecycle.acknowledge(incident.pk, TEST, page_id=page.pk if page else None)


def resolve(history: History, incident: Incident) -> None:
    lifecycle.resolve(incident.pk, TEST, "started it again")


def receipt(history: History, incident: Incident) -> None:
    for page in Page.objects.filter(incident=incident, state="accepted"):
        deliver(page)


def refuse(history: History, incident: Incident) -> None:
    """A provider refuses; the next channel has its turn at once, if the page has one."""
    waiting = Delivery.objects.filter(
        incident=incident, state="queued", purpose="page", page__next_way_at__isnull=False
    )
    for delivery in waiting[:1]:
        Delivery.objects.filter(pk=delivery.pk).update(state="failed", permanent=True, error="no", next_at=None)
        Page.objects.filter(deliveries=delivery).update(next_way_at=Now())


def assess(history: History, incident: Incident) -> None:
    grades = [Grade.HIGH, Grade.MEDIUM, Grade.LOW]
    lifecycle.assess(incident.pk, TEST, history.choice.choice(grades), history.choice.choice(grades), "looked at it")


def escalate(history: History, incident: Incident) -> None:
    hand.escalate_now(incident.pk, TEST)


def skip(history: History, incident: Incident) -> None:
    level = Level.objects.filter(incident=incident, state="pending").order_by("-due_at").first()
    hand.skip(incident.pk, TEST, level.pk if level else 0, "they are on a plane")


def repeat(history: History, incident: Incident) -> None:
    level = Level.objects.filter(incident=incident, state="fired").first()
    hand.repeat(incident.pk, TEST, level.pk if level else 0)


def hand_over(history: History, incident: Incident) -> None:
    hand.hand_over(incident.pk, TEST, history.choice.choice(history.world.people), "end of my day")


def note(history: History, incident: Incident) -> None:
    notes.add(incident.pk, TEST, "looked at the logs")


def ask_to_break(history: History, incident: Incident) -> None:
    holds.ask(incident.pk, history.actors[0], history.world.production, "the fix is a deployment")


def break_glass(history: History, incident: Incident) -> None:
    glass = BreakGlass.objects.filter(incident=incident, ended_at=None).first()
    holds.confirm(incident.pk, history.actors[1], glass.pk if glass else 0)


ACTIONS: list[Callable[[History, Incident], None]] = [
    acknowledge, resolve, receipt, receipt, refuse, assess, escalate, skip, repeat, hand_over, note, ask_to_break,
    break_glass,
]  # fmt: skip
