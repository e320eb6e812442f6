"""Adopting on ECS: a revision, a count or load balancers that somebody chose by hand become what was deployed."""

import pytest
from django.test import Client

from controlplane.accounts.access import Actor
from controlplane.operations.errors import Invalid
from controlplane.operations.states import State
from deployments.adoption import look_at, request_adoption
from tests.aws.company import REPOSITORY, SERVICE, Company, digest, run
from tests.environments.ecs.by_hand import (
    adopt,
    balance,
    desired,
    differences,
    forget_changes,
    lose,
    revise,
    update,
)
from tests.environments.the_clock import look

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

ADOPT = f"/environments/production/adopt/{SERVICE}"
CHANGED = [{"name": "PORT", "value": "9000"}]


def test_another_image_is_adopted_with_its_revision(company: Company) -> None:
    company.deploy("1.5.0")
    company.release("1.6.0")
    made = revise(company, image=f"{REPOSITORY}@{digest('1.6.0')}", environment=CHANGED)
    operation = adopt(company)
    assert (operation.state, operation.outcome) == (State.SUCCEEDED, "")
    company.placement.refresh_from_db()
    assert (company.placement.version, company.placement.left["definition"]) == ("1.6.0", made)
    assert company.aws.changes == {}
    assert differences(company, "1.6.0") == []


def test_a_revision_with_the_same_image_is_adopted_and_put_back_to_from_then_on(company: Company) -> None:
    company.deploy("1.5.0")
    revise(company, environment=CHANGED)
    operation = adopt(company)
    assert operation.state == State.SUCCEEDED
    assert [row["to"] for row in operation.plan["changes"] if row["what"] == "task definition"] == ["pitchey-backend:3"]
    assert company.aws.changes == {}
    assert differences(company) == []
    revise(company, environment=[])
    assert [what for what, _, _ in differences(company)] == ["environment"]
    assert company.deploy("1.5.0").state == State.SUCCEEDED
    container = company.described(company.serving())["containerDefinitions"][0]
    assert container["environment"] == CHANGED


@pytest.mark.parametrize("count", [0, 5])
def test_a_count_is_adopted(company: Company, count: int) -> None:
    company.deploy("1.5.0")
    update(company, desiredCount=count)
    assert adopt(company).state == State.SUCCEEDED
    assert (company.aws.changes, desired(company)) == ({}, count)
    assert differences(company) == []
    with pytest.raises(Invalid, match="Nothing to do"):
        company.ask("1.5.0")


def test_no_task_is_adopted_where_nobody_knows_how_many_there_were(company: Company) -> None:
    update(company, desiredCount=0)
    company.deploy("1.5.0")
    assert differences(company) == [("count", "tasks run", "no task is asked for")]
    assert adopt(company).state == State.SUCCEEDED
    assert differences(company) == []


def test_load_balancers_that_were_taken_off_are_adopted(company: Company) -> None:
    balance(company)
    company.deploy("1.5.0")
    update(company, loadBalancers=[])
    assert [what for what, _, _ in differences(company)] == ["registration"]
    assert adopt(company).state == State.SUCCEEDED
    assert differences(company) == []


def test_what_was_changed_again_by_then_is_not_adopted(company: Company) -> None:
    company.deploy("1.5.0")
    update(company, desiredCount=5)
    company.placement.refresh_from_db()
    operation = request_adoption(Actor(company.alice), company.placement, reason="because")
    update(company, desiredCount=6)
    assert run(operation).state == State.STALE
    assert ("count", "3 tasks are asked for", "6 are asked for") in differences(company)


def test_the_page_offers_both_answers_to_what_somebody_asked_for(client: Client, company: Company) -> None:
    company.deploy("1.5.0")
    update(company, desiredCount=0)
    company.placement.refresh_from_db()
    look()
    client.force_login(company.alice)
    assert ADOPT in client.get("/environments/production").content.decode()
    page = client.get(ADOPT).content.decode()
    assert "3 asked for" in page and "0 asked for" in page
    plan = look_at(company.placement).plan
    said = {"reason": "it sleeps until spring", "confirm": "production", "plan_digest": plan.digest}
    assert client.post(ADOPT, said).status_code == 302


def test_the_page_says_why_only_redeploying_answers_what_is_missing(client: Client, company: Company) -> None:
    balance(company)
    company.deploy("1.5.0")
    lose(company)
    look()
    client.force_login(company.alice)
    page = client.get("/environments/production").content.decode()
    assert "Redeploy 1.5.0" in page and ADOPT not in page
    assert "Nothing here can be adopted" in page
    forget_changes(company)
    with pytest.raises(Invalid, match="what is missing can only be deployed again"):
        adopt(company)
    assert company.aws.changes == {}
