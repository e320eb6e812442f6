"""The escalation matrix for programs: added and changed by administrators, on what was read, by the page's rules."""

from typing import Any

import pytest

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from incidents.lifecycle import open_incident
from incidents.models import Channel, EscalationPolicy, Level, Severity
from tests.api.conftest import Caller, assert_problem
from tests.incidents.oncall_world import matrix, primary
from tests.incidents.test_api import caller

pytestmark = pytest.mark.django_db
ONE = "escalation-policies/matrix"
LEAD: dict[str, Any] = {"role": "Team Lead", "after_seconds": 900, "targets": ["Dana"], "channels": ["sms", "phone"]}
FIRST: dict[str, Any] = {
    "role": "On-Call Engineer", "after_seconds": 0, "targets": ["schedule:primary"], "channels": ["pagerduty"],
}  # fmt: skip


@pytest.fixture
def adas(ada: Person, alice: Person, bob: Person, dana: Person) -> Caller:
    """An administrator's program; there is a matrix for P1 of one level, by a schedule."""
    primary()
    matrix("pagerduty", "sms")
    Channel.objects.create(kind="phone")
    return caller(ada)


def test_it_reads_as_it_is_written(adas: Caller, eve: Person) -> None:
    read = adas.get(ONE).json()
    assert (read["name"], read["severities"], read["repeats"]) == ("The matrix", ["P1"], 0)
    assert read["levels"] == [
        {"level": 1, "role": "On-Call Engineer", "after_seconds": 0, "targets": ["schedule:primary"],
         "channels": ["pagerduty", "sms"]}
    ]  # fmt: skip
    assert caller(eve).get("escalation-policies").json() == [read]


def test_levels_targets_and_severities_are_changed_for_incidents_to_come(adas: Caller, dana: Person) -> None:
    running, _ = open_incident(SYSTEM("test"), title="x", severity=Severity.P1, environments=[])
    body = {"levels": [FIRST, LEAD], "severities": ["P1", "P2"], "repeats": 2, "repeat_after_seconds": 600,
            "reason": "the lead is back", "digest": adas.get(ONE).json()["digest"]}  # fmt: skip
    answer = adas.post(f"{ONE}/changes", body)
    assert answer.status_code == 200, answer.content
    changed = answer.json()
    assert [one["targets"] for one in changed["levels"]] == [["schedule:primary"], ["dana"]]
    assert changed == adas.get(ONE).json()
    assert Level.objects.filter(incident=running).count() == 1
    fresh, _ = open_incident(SYSTEM("test"), title="y", severity=Severity.P2, environments=[])
    assert Level.objects.filter(incident=fresh).count() == 6
    entry = Entry.objects.filter(action="escalation.changed").get()
    assert (entry.actor, entry.reason, entry.target) == ("Ada", "the lead is back", "escalation policy matrix")


def test_what_is_left_out_stays(adas: Caller) -> None:
    read = adas.get(ONE).json()
    answer = adas.post(f"{ONE}/changes", {"name": "Paging", "reason": "x", "digest": read["digest"]})
    assert answer.json() == {**read, "name": "Paging", "digest": answer.json()["digest"]}


def test_of_two_changes_of_one_reading_only_the_first_is_made(adas: Caller) -> None:
    digest = adas.get(ONE).json()["digest"]
    assert adas.post(f"{ONE}/changes", {"name": "a", "reason": "x", "digest": digest}).status_code == 200
    assert_problem(adas.post(f"{ONE}/changes", {"name": "b", "reason": "x", "digest": digest}), 409, "Somebody")
    assert EscalationPolicy.objects.get().name == "a"


def test_one_more_policy_once_for_each_key(adas: Caller) -> None:
    body = {"policy": "night", "name": "At night", "severities": ["P3"], "levels": [FIRST, LEAD], "reason": "quiet"}
    first, second = (adas.post("escalation-policies", body, key="k1") for _ in range(2))
    assert first.status_code == 201, first.content
    assert second.content == first.content
    assert adas.get("escalation-policies/night").json() == first.json()
    assert_problem(adas.post("escalation-policies", {**body, "severities": []}), 409, "night already")
    assert Entry.objects.filter(action="escalation.added").get().reason == "quiet"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"levels": [{**FIRST, "targets": ["schedule:gone"]}]}, "body.levels.0.targets: There is no schedule gone"),
        ({"levels": [FIRST, {**LEAD, "targets": ["zed"]}]}, "body.levels.1.targets: There is nobody active called zed"),
        ({"levels": [{**FIRST, "channels": ["webhook"]}]}, "webhook is not configured"),
        ({"levels": [LEAD, FIRST]}, "L2 has to come later than L1"),
        ({"levels": [{**LEAD, "after_seconds": 90}]}, "multiple of 60"),
        ({"levels": []}, "body.levels"),
        ({"severities": ["P1"]}, "P1 is escalated by The matrix already"),
        ({"name": " "}, "body.name"),
        ({"reason": " "}, "body.reason"),
        ({"colour": "red"}, "body.colour"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(adas: Caller, wanted: dict[str, Any], words: str) -> None:
    body = {"policy": "night", "name": "x", "severities": [], "levels": [FIRST], "reason": "x", **wanted}
    assert_problem(adas.post("escalation-policies", body), 422, words)
    assert EscalationPolicy.objects.count() == 1


def test_operators_look_and_outsiders_see_nothing(adas: Caller, alice: Person, eve: Person, charlie: Person) -> None:
    body = {"name": "x", "reason": "x", "digest": adas.get(ONE).json()["digest"]}
    for person in (alice, eve):
        assert caller(person).get(ONE).status_code == 200
        assert_problem(caller(person).post(f"{ONE}/changes", body), 403, "role admin")
    program = caller(charlie)
    there, not_there = program.get(ONE), program.get("escalation-policies/nothing")
    assert_problem(there, 404)
    assert there.content == not_there.content
    assert_problem(program.get("escalation-policies"), 404)
    assert_problem(program.post(f"{ONE}/changes", body), 404)
    assert_problem(adas.get("escalation-policies/nothing"), 404)
