"""Whether the tasks that run get requests from the service's target groups, and how that is put right."""

import pytest
from django.test import Client

from controlplane.operations.states import State
from environments.drivers.base import PartlyUnknown
from environments.models import Drift
from tests.aws.company import CLUSTER, SERVICE, Company, run
from tests.aws.layer import LOST_AFTER, denied
from tests.environments.ecs.by_hand import (
    BALANCER,
    GROUP,
    balance,
    differences,
    forget_changes,
    lose,
    revise,
    update,
)
from tests.environments.the_clock import look

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)

WANTED = "in targetgroup/web/6d0ecf831eec9f09"
ACTION = "elasticloadbalancing:DescribeTargetHealth"


@pytest.fixture(autouse=True)
def behind_a_balancer(company: Company) -> None:
    """1.5.0 was deployed to a service with a target group."""
    balance(company)
    company.deploy("1.5.0")
    forget_changes(company)


def test_where_all_are_registered_nothing_differs(company: Company) -> None:
    assert differences(company) == []


def test_a_task_that_is_not_registered_is_said_with_its_address(company: Company) -> None:
    address = lose(company)
    assert differences(company) == [("registration", WANTED, f"task 0 ({address}) is not registered")]


def test_one_that_is_registered_and_not_well_gets_no_requests_either(company: Company) -> None:
    host = company.aws.cloud.balancing.held("us-east-1", GROUP)[1][0]
    company.aws.cloud.balancing.fall_ill(host)
    ((what, _, found),) = differences(company)
    assert what == "registration"
    assert found == f"task 1 ({host}:3000) is registered but unhealthy, Health checks failed with these codes: [503]"


def test_tasks_that_share_an_address_are_known_by_computer_and_port(company: Company) -> None:
    company.aws.ecs.bridged = True
    update(company, forceNewDeployment=True)
    assert differences(company) == []
    assert lose(company) == "i-0123456789abcdef0:32768"
    ((_, _, found),) = differences(company)
    assert found == "task 0 (i-0123456789abcdef0:32768) is not registered"


def test_redeploying_forces_a_new_deployment_that_registers_anew(company: Company) -> None:
    lose(company)
    before = company.serving()
    operation = company.ask("1.5.0")
    company.aws.will("UpdateService", LOST_AFTER)
    assert (run(operation).state, operation.outcome) == (State.SUCCEEDED, "")
    assert company.aws.changes == {"UpdateService": 1}
    assert company.aws.bodies["UpdateService"][0]["forceNewDeployment"] is True
    assert company.serving() == before
    assert differences(company) == []


def test_a_load_balancer_that_was_taken_off_is_put_back(company: Company) -> None:
    update(company, loadBalancers=[])
    assert differences(company) == [("registration", WANTED, "taken off the service")]
    operation = company.ask("1.5.0")
    company.aws.will("UpdateService", LOST_AFTER)
    assert (run(operation).state, operation.outcome) == (State.SUCCEEDED, "")
    assert [one["loadBalancers"] for one in company.aws.bodies["UpdateService"]] == [[BALANCER]]
    assert differences(company) == []


def test_a_load_balancer_that_serves_nobody_well_is_taken_off_again(company: Company) -> None:
    update(company, loadBalancers=[])
    company.site.statuses.extend([503, 503, 503])
    assert company.deploy("1.5.0").state == State.FAILED
    assert [one["loadBalancers"] for one in company.aws.bodies["UpdateService"]] == [[BALANCER], []]
    assert differences(company) == [("registration", WANTED, "taken off the service")]


def test_a_missing_permission_is_said_and_hides_nothing_else(company: Company) -> None:
    revise(company, environment=[])
    company.aws.will("DescribeTargetHealth", denied(ACTION))
    with pytest.raises(PartlyUnknown, match=f"does not allow {ACTION}") as raised:
        differences(company)
    assert [one.what for one in raised.value.differences] == ["environment"]
    assert [one.what for one in raised.value.unheard] == ["registration"]


def test_what_was_known_of_the_registration_stays_open_while_nobody_may_ask(client: Client, company: Company) -> None:
    lose(company)
    look()
    assert [one.what for one in Drift.objects.filter(ended_at=None)] == ["registration"]
    company.aws.will("DescribeTargetHealth", denied(ACTION))
    revise(company, environment=[])
    lose(company)  # the new tasks were registered as they started
    look()
    assert {one.what for one in Drift.objects.filter(ended_at=None)} == {"registration", "environment"}
    client.force_login(company.alice)
    page = client.get("/environments/production").content.decode()
    assert "drift not known" in page and f"does not allow {ACTION}" in page
    look()
    page = client.get("/environments/production").content.decode()
    assert "drift not known" not in page
    assert Drift.objects.filter(ended_at=None, what="environment").count() == 1


def test_a_rollout_under_way_is_no_registration_to_speak_of(company: Company) -> None:
    lose(company)
    company.aws.ecs.polls = 50
    company.client.update_service(cluster=CLUSTER, service=SERVICE, forceNewDeployment=True)
    assert [what for what, _, _ in differences(company)] == []
