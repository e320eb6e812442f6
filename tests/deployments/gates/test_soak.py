"""The digest has run in the environment before for at least as long as the policy wants."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from deployments.models import Deployment
from environments.models import Placement
from tests.deployments.gates.policies import asked, outcome, rule
from tests.deployments.insight.test_pages import ran
from tests.estate import Estate

MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.django_db


def since(estate: Estate, minutes: int) -> None:
    """It came to staging so long ago."""
    there = Placement.objects.filter(environment=estate.staging)
    there.update(since=Now() - timedelta(minutes=minutes))


def came(estate: Estate, version: str, minutes: int, *, came_from: str = "", recorded: bool = True) -> None:
    """A deployment brought the version to staging so many minutes ago. came_from: the version that it found there."""
    operation = ran(estate.staging, estate.releases[version], ago=minutes / (24 * 60))
    found = estate.releases[came_from].digest if came_from else ""
    Deployment.objects.filter(operation=operation).update(from_digest=found)
    if recorded:
        runs(estate, version, minutes, operation.pk)


def runs(estate: Estate, version: str, minutes: int, operation: int) -> None:
    """What an operation of any kind leaves written down."""
    wanted = estate.releases[version]
    there = Placement.objects.filter(environment=estate.staging)
    there.update(digest=wanted.digest, version=version, since=Now() - minutes * MINUTE, changed_in=operation)


def test_is_not_asked_for_where_no_policy_wants_it(estate: Estate) -> None:
    assert "soak" not in asked(estate)


def test_it_waits_until_it_ran_for_long_enough(estate: Estate) -> None:
    rule(estate, soak_minutes=90)
    since(estate, 30)
    gate = asked(estate)["soak"]
    assert outcome(gate) == "pending"
    assert "1 h" in gate.reason or "59 min" in gate.reason
    since(estate, 91)
    assert outcome(asked(estate)["soak"]) == "passed"


def test_what_was_replaced_too_early_has_to_go_there_again(estate: Estate) -> None:
    rule(estate, soak_minutes=90)
    since(estate, 30)
    there = Placement.objects.filter(environment=estate.staging)
    there.update(digest=estate.releases["1.6.0"].digest, version="1.6.0", since=Now())
    assert outcome(asked(estate)["promotion"]) == "failed"
    assert "soak" not in asked(estate), "the one before it says what to do"


def test_what_was_replaced_late_enough_may_go(estate: Estate) -> None:
    rule(estate, soak_minutes=60)
    came(estate, "1.5.0", 180)
    came(estate, "1.6.0", 100, came_from="1.5.0")
    gate = asked(estate)["soak"]
    assert outcome(gate) == "passed"
    assert "1 h 17 min" in gate.reason, "until the next one began"


def test_the_same_again_goes_on_with_the_stay(estate: Estate) -> None:
    rule(estate, soak_minutes=60)
    came(estate, "1.5.0", 90)
    came(estate, "1.5.0", 10, came_from="1.5.0")
    assert outcome(asked(estate)["soak"]) == "passed"


def test_what_was_replaced_without_a_deployment_did_not_stay_until_now(estate: Estate) -> None:
    rule(estate, soak_minutes=60)
    came(estate, "1.5.0", 90)
    runs(estate, "1.6.0", 85, operation=999_999)
    gate = asked(estate)["soak"]
    assert outcome(gate) == "failed"
    assert "does not run there any more" in gate.reason


def test_what_went_and_came_back_without_a_deployment_counts_from_then_on(estate: Estate) -> None:
    rule(estate, soak_minutes=60)
    came(estate, "1.5.0", 90)
    runs(estate, "1.5.0", 5, operation=999_999)
    gate = asked(estate)["soak"]
    assert outcome(gate) == "pending"
    assert "it has run there for 5 min" in gate.reason


@pytest.mark.parametrize("found", ["1.6.0", ""])
def test_a_deployment_that_found_something_else_ends_no_stay(estate: Estate, found: str) -> None:
    """Another image was adopted in between; or nobody could see what ran."""
    rule(estate, soak_minutes=60)
    came(estate, "1.5.0", 180)
    came(estate, "1.4.0", 20, came_from=found)
    assert outcome(asked(estate)["soak"]) == "failed"


def test_stays_go_by_when_deployments_ran_and_not_by_when_they_were_asked_for(estate: Estate) -> None:
    rule(estate, soak_minutes=60)
    came(estate, "1.4.0", 30, came_from="1.5.0")
    came(estate, "1.5.0", 90, recorded=False)
    assert outcome(asked(estate)["soak"]) == "failed"
