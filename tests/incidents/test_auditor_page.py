"""What pages show of the auditor."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from incidents import late
from incidents.auditor.invariants import INVARIANTS
from incidents.auditor_board import ALARMS
from incidents.models import AuditorAlarm, AuditorBeat

pytestmark = pytest.mark.django_db


def test_every_promise_is_on_the_page(client: Client, dana: Person) -> None:
    client.force_login(dana)
    text = client.get("/auditor").content.decode()
    assert not [one.name for one in INVARIANTS if one.name not in text]
    assert "never ran" in text


def test_the_navigation_marks_one_place(client: Client, dana: Person) -> None:
    client.force_login(dana)
    text = client.get("/auditor").content.decode()
    assert text.count('aria-current="page"') == 1, "the audit trail is another page"


def test_a_broken_promise_and_one_that_cannot_be_checked(client: Client, dana: Person) -> None:
    AuditorBeat.objects.create(name="here")
    AuditorAlarm.objects.create(key="level-overdue:812", words="L2 of incident 7 has not been paged")
    AuditorAlarm.objects.create(key="unchecked:lock-left", words="Nobody knows")
    client.force_login(dana)
    text = client.get("/auditor").content.decode()
    assert text.count('<span class="state bad">broken</span>') == 1
    assert text.count('<span class="state wait">not known</span>') == 1
    assert "L2 of incident 7 has not been paged" in text
    assert "not told to anybody yet" in text


def test_an_outsider_sees_nothing(client: Client, charlie: Person, eve: Person) -> None:
    for person in (charlie, eve):
        client.force_login(person)
        assert client.get("/auditor").status_code == 403
        assert not late.cards(Actor(person), ALARMS)


def test_the_board_shows_alarms_and_a_silent_auditor(dana: Person) -> None:
    assert not late.cards(Actor(dana), ALARMS)
    AuditorAlarm.objects.create(key="a:1", words="something is broken")
    AuditorAlarm.objects.create(key="a:2", words="this is over", over_at=Now())
    AuditorBeat.objects.create(name="here")
    assert [card.text for card in late.cards(Actor(dana), ALARMS)] == ["something is broken"]
    AuditorBeat.objects.update(beat_at=Now() - timedelta(seconds=61))
    assert [card.title for card in late.cards(Actor(dana), ALARMS)] == ["Auditor", "Auditor is silent"]


def test_many_alarms_are_one_card(dana: Person) -> None:
    for number in range(6):
        AuditorAlarm.objects.create(key=f"a:{number}", words="something is broken")
    assert len(late.cards(Actor(dana), ALARMS)) == 1
