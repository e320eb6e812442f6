"""What the board says of backups: one line of the matrix, and a card for each thing that is wrong."""

import re
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import Client

from backups.alerts import raise_alert
from backups.board import AT_MOST, protection
from backups.models import BackupAlert, Kind, Policy
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.web.tones import Tone
from environments.cards import LineCell
from environments.models import Environment
from tests.backups.company import Make
from tests.backups.history import entry, proven

pytestmark = pytest.mark.django_db


def dumps(make_policy: Make, slug: str = "database") -> Policy:
    return make_policy(slug, kind=Kind.DATABASE, settings={"database": "env:NOWHERE"})


def cell(person: Person) -> LineCell | None:
    return protection(Actor(person), list(Environment.objects.all())).cells.get("production")


def alarm(policy: Policy, kind: str = BackupAlert.Kind.FAILED, words: str = "the disk is full") -> None:
    with transaction.atomic():
        raise_alert(policy, kind, words)


def test_without_a_policy_there_is_no_line(production: Environment, alice: Person) -> None:
    assert cell(alice) is None


def test_no_database_backup_yet(make_policy: Make, alice: Person) -> None:
    dumps(make_policy)
    seen = cell(alice)
    assert seen is not None and seen.word == "no database backup yet" and seen.tone == Tone.WAIT


def test_made_but_not_proven(make_policy: Make, alice: Person) -> None:
    entry(dumps(make_policy), age=timedelta(minutes=1))
    seen = cell(alice)
    assert seen is not None and seen.word == "not proven yet" and seen.tone == Tone.WAIT
    assert seen.url == "/backups#production"


def test_protected(make_policy: Make, alice: Person) -> None:
    good = proven(dumps(make_policy), age=timedelta(minutes=1))
    seen = cell(alice)
    assert seen is not None and seen.tone == Tone.OK and seen.word == "protected"
    assert seen.until == ("restorable to", good.as_of) and seen.since == ("proven", good.tested_at)
    assert re.fullmatch(r"RPO 1 m \d+ s of 1 h, RTO 9 s of 4 h", " ".join(seen.text.split()))


def test_what_is_wrong_is_a_card_and_the_line_is_red(client: Client, make_policy: Make, alice: Person) -> None:
    policy = dumps(make_policy)
    proven(policy, age=timedelta(minutes=1))
    alarm(policy)
    seen = cell(alice)
    assert seen is not None and seen.tone == Tone.BAD and seen.word == "the last run failed"
    (card,) = protection(Actor(alice), []).cards
    assert (card.tone, card.title, card.text) == (
        Tone.BAD, "production/database: the last run failed", "the disk is full",
    )  # fmt: skip
    client.force_login(alice)
    said = client.get("/").content.decode()
    assert "the disk is full" in said and policy.get_absolute_url() in said


def test_many_are_one_card(make_policy: Make, alice: Person) -> None:
    for number in range(AT_MOST + 1):
        alarm(make_policy(f"p{number}"))
    (card,) = protection(Actor(alice), []).cards
    assert card.title == f"{AT_MOST + 1} things are wrong with backups" and card.url == "/backups"


@pytest.mark.parametrize("who", ["charlie", "eve"])
def test_nothing_of_elsewhere(make_policy: Make, request: pytest.FixtureRequest, who: str) -> None:
    alarm(dumps(make_policy))
    seen = protection(Actor(request.getfixturevalue(who)), [])
    assert not seen.cells and not seen.cards
