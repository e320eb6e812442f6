"""Freezes and working hours: what is closed waits, says why, and when it opens."""

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.models import Operation
from deployments.models import FreezeWindow
from deployments.policies import end_freeze, freeze
from deployments.services import request_deployment
from tests.deployments.gates.policies import asked, outcome, rule
from tests.estate import Estate

TODAY = f"{datetime.now(UTC):%Y-%m-%d}T00:00"
pytestmark = pytest.mark.django_db
AT = datetime(2126, 12, 24, 12, tzinfo=UTC)  # a Tuesday


def closed(estate: Estate, **fields: object) -> FreezeWindow:
    values = {"reason": "year's end", "zone": "Europe/Berlin", "starts": "2126-12-20T18:00", "minutes": 60 * 24 * 14}
    return FreezeWindow.objects.create(environment=estate.production, author_name="bob", **values | fields)


def test_a_freeze_says_why_and_when_it_opens(estate: Estate) -> None:
    closed(estate)
    gate = asked(estate, planned=AT)["freeze"]
    assert outcome(gate) == "pending"
    assert gate.reason == "closed because of year's end; opens Fri 03 Jan 18:00 Europe/Berlin (17:00 UTC)"
    assert outcome(asked(estate)["freeze"]) == "passed", "today it is open"


def test_it_opens_within_working_hours_only(estate: Estate) -> None:
    closed(estate)
    rule(estate, hours={"zone": "Europe/Berlin", "days": ["mon", "tue", "wed", "thu"], "from": "09:00", "to": "16:00"})
    gates = asked(estate, planned=AT)
    assert outcome(gates["hours"]) == "passed"
    assert gates["freeze"].reason.endswith("opens Mon 06 Jan 09:00 Europe/Berlin (08:00 UTC)")
    later = asked(estate, planned=AT.replace(hour=20))["hours"]
    assert outcome(later) == "pending"
    assert "closed, since it is open Mon to Thu 09:00 to 16:00" in later.reason


def test_a_deployment_may_be_planned_for_after_it(estate: Estate, alice: Person) -> None:
    now = datetime.now(UTC)
    in_a_month = now + timedelta(days=30)
    closed(estate, starts=f"{now:%Y-%m-%dT00:00}", zone="UTC", minutes=60 * 48)
    assert outcome(asked(estate)["freeze"]) == "pending"
    later = planned_for(estate, alice, in_a_month)
    assert [gate["outcome"] for gate in later.gates if gate["key"] == "freeze"] == ["passed"]
    closed(estate, starts=f"{in_a_month:%Y-%m-%dT00:00}", zone="UTC", minutes=60 * 48)
    later = planned_for(estate, alice, in_a_month)
    assert [gate["outcome"] for gate in later.gates if gate["key"] == "freeze"] == ["pending"]


def planned_for(estate: Estate, alice: Person, at: datetime) -> Operation:
    release = estate.releases["1.5.0"]
    return request_deployment(
        Actor(alice), environment=estate.production, release=release, reason="new", scheduled_for=at
    )


def test_approvers_close_and_open_it_with_a_reason(estate: Estate, bob: Person) -> None:
    window = freeze(
        Actor(bob), estate.production, reason="the fair", zone="UTC", starts=TODAY, minutes=1440,
        rule="FREQ=DAILY",
    )  # fmt: skip
    assert outcome(asked(estate)["freeze"]) == "pending"
    with pytest.raises(Invalid, match="Say why"):
        end_freeze(Actor(bob), estate.production, window.pk, " ")
    end_freeze(Actor(bob), estate.production, window.pk, "it was called off")
    assert "freeze" not in asked(estate)
    with pytest.raises(Conflict):
        end_freeze(Actor(bob), estate.production, window.pk, "again")
    actions = list(Entry.objects.filter(target="environment production").values_list("action", "reason"))
    assert actions == [("environment.frozen", "the fair"), ("environment.thawed", "it was called off")]


def test_an_equal_one_is_made_once_and_again_after_its_end(estate: Estate, bob: Person, ada: Person) -> None:
    values = {"reason": "the fair", "zone": "UTC", "starts": TODAY, "minutes": 60, "rule": ""}
    window = freeze(Actor(bob), estate.production, **values)  # type: ignore[arg-type]
    for who in (bob, ada):
        with pytest.raises(Conflict, match="already"):
            freeze(Actor(who), estate.production, **values)  # type: ignore[arg-type]
    for other in ({"reason": "stock-taking"}, {"minutes": 61}, {"rule": "FREQ=DAILY"}, {"zone": "Europe/Berlin"}):
        freeze(Actor(bob), estate.production, **{**values, **other})  # type: ignore[arg-type]
    freeze(Actor(bob), estate.staging, **values)  # type: ignore[arg-type]
    end_freeze(Actor(bob), estate.production, window.pk, "it was called off")
    freeze(Actor(bob), estate.production, **values)  # type: ignore[arg-type]
    assert FreezeWindow.objects.count() == 7


@pytest.mark.parametrize(
    "wrong",
    [{"zone": "Mars/Base"}, {"starts": "tomorrow"}, {"starts": "2026-01-01T00:00+01:00"}, {"minutes": 0},
     {"rule": "FREQ=HOURLY"}, {"rule": "FREQ=DAILY;INTERVAL=0"}, {"reason": ""}, {"starts": "0001-01-01T00:00"},
     {"starts": "2099-01-01T00:00"}],
)  # fmt: skip
def test_what_cannot_be_read_changes_nothing(estate: Estate, bob: Person, wrong: dict[str, object]) -> None:
    values = {
        "reason": "why",
        "zone": "UTC",
        "starts": TODAY,
        "minutes": 5,
        "rule": "",
    } | wrong
    with pytest.raises(Invalid):
        freeze(Actor(bob), estate.production, **values)  # type: ignore[arg-type]
    assert not FreezeWindow.objects.exists()
