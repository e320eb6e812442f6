"""Deploying the same release again puts back how it was deployed: the revision and the count, and only what differs."""

import boto3
import pytest

from controlplane.operations import boundaries
from controlplane.operations.errors import Invalid
from controlplane.operations.models import Deed, Operation
from controlplane.operations.states import State
from environments.drivers.base import PartlyUnknown
from tests.aws.company import CLUSTER, SERVICE, Company, Killed, run, run_until_the_end
from tests.aws.layer import LOST_AFTER, LOST_BEFORE, Fault, denied, throttled
from tests.environments.ecs.by_hand import desired, differences, forget_changes, revise, update

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

VARIABLES = [{"name": "PORT", "value": "9000"}]
BOTH = {"RegisterTaskDefinition": 1, "UpdateService": 2}


def port(company: Company) -> str:
    """The variable that revisions made by hand change."""
    definition = company.described(company.serving())
    return str(definition["containerDefinitions"][0]["environment"][0]["value"])


def begun(operation: Operation) -> list[str]:
    """Its steps that were done, in order."""
    done = operation.steps.exclude(state="pending").order_by("position")
    return list(done.values_list("key", flat=True))


def assert_explained(operation: Operation) -> None:
    assert not Deed.objects.get(operation=operation).differences


def test_without_drift_there_is_nothing_to_do(company: Company) -> None:
    company.deploy("1.5.0")
    with pytest.raises(Invalid, match=r"Nothing to do: 1\.5\.0 runs on every instance"):
        company.ask("1.5.0")


@pytest.mark.parametrize("count", [0, 5])
def test_the_count_is_put_back(company: Company, count: int) -> None:
    company.deploy("1.5.0")
    update(company, desiredCount=count)
    found = "no task is asked for" if count == 0 else "5 are asked for"
    assert [(what, said) for what, _, said in differences(company)] == [("count", found)]
    operation = company.deploy("1.5.0")
    assert (operation.state, operation.outcome) == (State.SUCCEEDED, "")
    assert begun(operation) == ["count/scale", "count/up"]
    assert company.aws.changes == {"UpdateService": 1}
    assert desired(company) == 3
    assert differences(company) == []
    assert_explained(operation)


def test_the_plan_says_what_it_puts_back(company: Company) -> None:
    company.deploy("1.5.0")
    revise(company, environment=VARIABLES)
    update(company, desiredCount=0)
    operation = company.ask("1.5.0")
    changes = [(row["what"], row["from"], row["to"]) for row in operation.plan["changes"]]
    assert changes[1:] == [
        ("task definition", "pitchey-backend as it runs", "a copy of pitchey-backend:2, as it was deployed"),
        ("tasks", "0 asked for", "3 asked for"),
    ]


def test_the_revision_is_put_back(company: Company) -> None:
    company.deploy("1.5.0")
    revise(company, environment=VARIABLES)
    assert [what for what, _, _ in differences(company)] == ["environment"]
    operation = company.deploy("1.5.0")
    assert (operation.state, operation.outcome) == (State.SUCCEEDED, "")
    assert begun(operation) == ["register", "update", "stable", "check"]
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 1}
    assert (port(company), desired(company)) == ("8000", 3)
    assert differences(company) == []
    assert_explained(operation)


def test_a_revision_of_another_family_is_put_back_to_its_own(company: Company) -> None:
    company.deploy("1.5.0")
    given = company.described(company.serving())
    keys = ("containerDefinitions", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn")
    other = company.client.register_task_definition(family="by-hand", **{key: given[key] for key in keys})
    update(company, taskDefinition=other["taskDefinition"]["taskDefinitionArn"])
    operation = company.ask("1.5.0")
    company.aws.will("RegisterTaskDefinition", LOST_AFTER)
    assert run(operation).state == State.SUCCEEDED
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 1}
    assert "/pitchey-backend:" in company.serving()
    assert differences(company) == []


def drifted(company: Company) -> Operation:
    """No task is asked for, of a revision made by hand; somebody asks for a deployment of the same release."""
    company.deploy("1.5.0")
    revise(company, environment=VARIABLES)
    update(company, desiredCount=0)
    return company.ask("1.5.0")


STEPS = ["register", "update", "stable", "count/scale", "count/up"]


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_puts_back_nothing_twice(company: Company, step: str) -> None:
    operation = drifted(company)

    def die(reached: str, operation_id: int, key: str) -> None:
        if (reached, key) == ("effect_done", step):
            boundaries.listeners.clear()
            raise Killed

    boundaries.listeners.append(die)
    assert run_until_the_end(operation).state == State.SUCCEEDED
    assert company.aws.changes == BOTH
    assert (port(company), desired(company)) == ("8000", 3)
    assert_explained(operation)


@pytest.mark.parametrize("fault", [LOST_AFTER, LOST_BEFORE, throttled()], ids=["after", "before", "throttled"])
def test_a_call_that_goes_wrong_is_looked_after(company: Company, fault: Fault) -> None:
    operation = drifted(company)
    company.aws.will("RegisterTaskDefinition", fault)
    company.aws.will("UpdateService", fault)
    assert run(operation).state == State.SUCCEEDED
    assert company.aws.changes == BOTH
    assert_explained(operation)


def test_a_revision_that_is_not_well_goes_back_to_the_one_made_by_hand(company: Company) -> None:
    company.deploy("1.5.0")
    made = revise(company, environment=VARIABLES)
    company.site.statuses.extend([503, 503, 503])
    operation = company.deploy("1.5.0")
    assert operation.state == State.FAILED
    assert company.serving() == made
    assert [what for what, _, _ in differences(company)] == ["environment"], "what was deployed is still remembered"
    assert_explained(operation)


def test_a_count_that_is_not_well_goes_back_and_so_does_the_revision(company: Company) -> None:
    company.deploy("1.5.0")
    made = revise(company, environment=VARIABLES)
    update(company, desiredCount=0)
    company.settings(stable_seconds=1.5)
    company.site.usual = 503
    operation = company.deploy("1.5.0")
    assert operation.state == State.FAILED
    assert (company.serving(), desired(company)) == (made, 0)
    done = begun(operation)
    assert done.index("put-back/count/scale") < done.index("put-back/update")
    assert_explained(operation)


def test_what_was_put_back_by_somebody_else_makes_the_plan_stale(company: Company) -> None:
    company.deploy("1.5.0")
    update(company, desiredCount=0)
    operation = company.ask("1.5.0")
    update(company, desiredCount=3)
    assert run(operation).state == State.STALE
    assert company.aws.changes == {}


def test_another_release_leaves_the_count_alone_and_it_still_differs(company: Company) -> None:
    company.deploy("1.5.0")
    update(company, desiredCount=0)
    assert company.deploy("1.5.1").state == State.SUCCEEDED
    assert desired(company) == 0
    assert differences(company, "1.5.1") == [("count", "3 tasks are asked for", "no task is asked for")]


def test_behind_a_redeployment_in_the_queue_there_is_nothing_left_to_put_back(company: Company) -> None:
    drifted(company)
    with pytest.raises(Invalid, match="Nothing to do"):
        company.ask("1.5.0")


def scaled_by_itself(company: Company, least: int, most: int) -> None:
    client = boto3.client(
        "application-autoscaling", region_name="us-east-1", endpoint_url=company.aws.url,
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip
    client.register_scalable_target(
        ServiceNamespace="ecs", ResourceId=f"service/{CLUSTER}/{SERVICE}", ScalableDimension="ecs:service:DesiredCount",
        MinCapacity=least, MaxCapacity=most,
    )  # fmt: skip


def test_a_count_that_auto_scaling_may_choose_is_nobodys_hand(company: Company) -> None:
    company.deploy("1.5.0")
    scaled_by_itself(company, 2, 6)
    update(company, desiredCount=5)
    assert differences(company) == []
    with pytest.raises(Invalid, match="Nothing to do"):
        company.ask("1.5.0")
    update(company, desiredCount=0)
    assert differences(company) == [("count", "3 tasks are asked for", "no task is asked for")]
    scaled_by_itself(company, 0, 6)
    assert differences(company) == []


def test_who_may_not_ask_what_scales_it_does_not_know_and_changes_no_count(company: Company) -> None:
    company.deploy("1.5.0")
    update(company, desiredCount=5)
    forget_changes(company)
    action = "application-autoscaling:DescribeScalableTargets"
    company.aws.will("DescribeScalableTargets", denied(action))
    with pytest.raises(PartlyUnknown, match=f"does not allow {action}") as raised:
        differences(company)
    assert list(raised.value.differences) == []
    assert [one.what for one in raised.value.unheard] == ["count"]
    company.aws.will("DescribeScalableTargets", denied(action))
    with pytest.raises(Invalid, match="Nothing to do"):
        company.ask("1.5.0")
