"""A deployment to ECS: a new revision with the image by digest, in service once it is stable and healthy."""

import pytest

from controlplane.operations import boundaries
from controlplane.operations.models import Step
from controlplane.operations.states import State
from environments.drivers.base import Software
from tests.aws.company import CLUSTER, REPOSITORY, SECRET_KEY, SERVICE, Company, digest, lines, run, states

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_it_brings_the_release_by_digest(company: Company) -> None:
    operation = company.deploy("1.5.0")
    assert (operation.state, operation.outcome) == (State.SUCCEEDED, "")
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 1}
    found = company.running()
    assert (found.version, found.digest) == ("1.5.0", digest("1.5.0"))
    assert found.image == f"{REPOSITORY}@{digest('1.5.0')}"


def test_everything_but_the_image_stays(company: Company) -> None:
    operation = company.deploy("1.5.0")
    before, after = company.described(company.former), company.described(company.serving())
    backend, router = after.pop("containerDefinitions")
    old_backend, old_router = before.pop("containerDefinitions")
    assert router == old_router
    labels = {
        "team": "platform",
        "controlplane.operation": f"operation {operation.pk}",
        "controlplane.version": "1.5.0",
    }
    assert backend == {**old_backend, "image": f"{REPOSITORY}@{digest('1.5.0')}", "dockerLabels": labels}
    accidental = ("taskDefinitionArn", "revision", "registeredAt")
    assert {k: v for k, v in after.items() if k not in accidental} == {
        k: v for k, v in before.items() if k not in accidental
    }
    assert after["executionRoleArn"] and after["cpu"] == "1024"


def test_the_circuit_breaker_guards_it_and_the_rest_of_the_configuration_stays(company: Company) -> None:
    company.deploy()
    (sent,) = company.aws.bodies["UpdateService"]
    assert sent["deploymentConfiguration"] == {
        "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        "maximumPercent": 150,
        "minimumHealthyPercent": 50,
    }
    assert (sent["cluster"], sent["service"]) == (CLUSTER, SERVICE)


def test_counts_and_each_service_event_once_are_in_the_log(company: Company) -> None:
    said = lines(company.deploy())
    assert "3 desired, 3 running (1 on pitchey-backend:2), 2 pending, rollout in progress" in said
    assert "3 desired, 3 running (3 on pitchey-backend:2), 0 pending, rollout completed" in said
    events = [line for line in said if line.startswith("(service ")]
    assert len(events) == len(set(events)) == 3
    assert events[-1] == "(service pitchey-backend) has reached a steady state."


def test_progress_is_in_tasks_and_then_in_checks(company: Company) -> None:
    operation = company.deploy()
    progress = Step.objects.filter(operation=operation).exclude(progress_unit="").order_by("position")
    assert list(progress.values_list("key", "progress_done", "progress_total", "progress_unit")) == [
        ("stable", 3, 3, "tasks"),
        ("check", 3, 3, "checks"),
    ]
    assert company.site.asked == ["/health"] * 3


def test_one_bad_answer_is_not_the_end(company: Company) -> None:
    company.site.statuses.extend([503, 200, 503, 200])
    assert company.deploy().state == State.SUCCEEDED
    assert len(company.site.asked) == 6


def test_nothing_to_do_for_what_runs(company: Company) -> None:
    rollout = company.driver.rollout(company.target, [company.running()], software(company, "1.4.0"))
    assert rollout.steps == ()
    assert rollout.changes[0]["to"] == "already on it"


def test_the_plan_is_pure_and_says_where_what_and_how(company: Company) -> None:
    running = [company.running()]
    asked = company.aws.asked.copy()
    rollout = company.driver.rollout(company.target, running, software(company, "1.5.0"))
    assert rollout == company.driver.rollout(company.target, running, software(company, "1.5.0"))
    assert company.aws.asked == asked
    register = rollout.steps[0].arguments
    assert register["image"] == f"{REPOSITORY}@{digest('1.5.0')}"
    assert register["runs"]["family"] == SERVICE and register["runs"]["digest"] == digest("1.4.0")
    for step in (*rollout.steps, *rollout.recovery):
        place = step.arguments["place"]
        assert (place["cluster"], place["service"], place["region"]) == (CLUSTER, SERVICE, "us-east-1")
    assert SECRET_KEY not in repr(rollout)


def test_a_release_without_a_digest_is_refused(company: Company) -> None:
    with pytest.raises(Exception, match=r"1\.5\.0 has no image digest"):
        company.driver.rollout(company.target, [company.running()], Software("1.5.0", REPOSITORY, ""))


def test_what_waits_behind_another_deployment_stays_true(company: Company) -> None:
    first, second = company.ask("1.5.0"), company.ask("1.5.1")
    assert run(first).state == State.SUCCEEDED
    assert run(second).state == State.SUCCEEDED
    assert company.running().version == "1.5.1"


def test_what_was_changed_by_hand_meanwhile_makes_it_stale(company: Company) -> None:
    operation = company.ask()
    by_hand(company, environment=[{"name": "PORT", "value": "9000"}])
    assert run(operation).state == State.STALE
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 1}  # by hand, both


def test_what_was_changed_by_hand_after_the_start_is_left_alone(company: Company) -> None:
    operation = company.ask()

    def too_late(boundary: str, operation_id: int, step: str) -> None:
        if boundary == "claimed":
            by_hand(company, environment=[])

    boundaries.listeners.append(too_late)
    assert run(operation).state == State.FAILED
    assert "pitchey-backend:2 is in service, which is not what the plan was made for" in operation.outcome
    assert company.aws.changes == {"RegisterTaskDefinition": 1, "UpdateService": 1}  # by hand, both


def test_back_to_an_earlier_release(company: Company) -> None:
    company.deploy("1.5.0")
    assert company.deploy("1.4.0").state == State.SUCCEEDED
    assert company.running().digest == digest("1.4.0")


def test_a_service_scaled_to_nothing_is_updated_and_not_asked(company: Company) -> None:
    company.client.update_service(cluster=CLUSTER, service=SERVICE, desiredCount=0)
    company.site.usual = 503
    operation = company.deploy()
    assert operation.state == State.SUCCEEDED
    assert company.site.asked == []
    assert any("scaled to 0 tasks" in line for line in lines(operation))


def test_without_a_url_nothing_can_be_asked(company: Company) -> None:
    company.placement.environment.url = ""
    company.placement.environment.save()
    assert set(states(company.deploy())) == {"register", "update", "stable", "put-back/update", "put-back/stable"}


def software(company: Company, version: str) -> Software:
    release = company.release(version)
    return Software(release.version, release.image, release.digest)


def by_hand(company: Company, **changes: object) -> None:
    """Somebody registers a revision of their own and brings it into service."""
    definition = company.described(company.former)
    definition["containerDefinitions"][0] |= changes
    keys = ("family", "containerDefinitions", "networkMode", "requiresCompatibilities", "cpu", "memory")
    made = company.client.register_task_definition(**{key: definition[key] for key in keys})
    arn = made["taskDefinition"]["taskDefinitionArn"]
    company.client.update_service(cluster=CLUSTER, service=SERVICE, taskDefinition=arn)
