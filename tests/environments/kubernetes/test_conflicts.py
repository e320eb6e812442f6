"""Other managers of fields, late workers, and secrets that nobody may see."""

import base64
import json

import pytest

from controlplane.operations.errors import LeaseLost
from tests.environments.hosts.park import carry_out
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.server import TOKEN
from tests.environments.kubernetes.town import NAME, Town, do_until


def _changed_by(town: Town, manager: str, grace: int = 99) -> None:
    spec: Object = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": grace}}}}
    town.cluster.update("Deployment", NAME, spec, manager)
    town.cluster.settle()


def test_a_field_that_another_manages_is_named_with_its_manager(town: Town) -> None:
    town.deploy("1.4.0")
    _changed_by(town, "kubectl-edit")
    error = town.deploy("1.5.0")
    said = "spec.template.spec.terminationGracePeriodSeconds is managed by kubectl-edit"
    assert said in str(error) and "set force" in str(error)
    assert town.deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 99


def test_force_as_a_setting_takes_it_over(town: Town) -> None:
    town.deploy("1.4.0")
    _changed_by(town, "kubectl-edit")
    town.settings(force=True)
    assert town.deploy("1.5.0") is None
    assert town.deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30


def test_what_others_add_stays(town: Town) -> None:
    town.deploy("1.4.0")
    town.cluster.update("Deployment", NAME, {"metadata": {"labels": {"team": "pitches"}}}, "kubectl-label")
    assert town.deploy("1.5.0") is None
    assert town.deployment["metadata"]["labels"]["team"] == "pitches"


def test_a_lower_fence_must_not_act(town: Town) -> None:
    town.deploy("1.4.0", town.worker(fence=9, operation_id=9))
    late = town.worker(fence=3, operation_id=3)
    asked = len(town.api.changes())
    with pytest.raises(LeaseLost):
        carry_out(late, town.rollout("1.5.0"))
    assert town.api.changes()[asked:] == []


def test_a_change_after_one_looked_is_not_overwritten(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The late worker stood still between its look and its request."""
    town.deploy("1.4.0")
    late = town.worker()
    step = do_until(late, town.rollout("1.5.0"), "deployment")
    checks: list[int] = []

    def check() -> None:
        checks.append(1)
        if len(checks) == 2:
            _changed_by(town, "somebody")

    monkeypatch.setattr(late, "check", check)
    with pytest.raises(Exception, match="changed by somebody else meanwhile"):
        late.do(step)
    assert town.running().version == "1.4.0"


def test_secret_values_are_only_in_the_secret(town: Town) -> None:
    worker = town.worker()
    assert town.deploy("1.4.0", worker) is None
    name = f"{NAME}-{town.target.settings['configuration']}"
    kept = town.cluster.get("Secret", name)
    assert base64.b64decode(kept["data"]["DATABASE_PASSWORD"]) == b"hunter2-sentinel"
    env = town.deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "LOG_LEVEL", "value": "info"} in env
    reference = {"secretKeyRef": {"name": name, "key": "DATABASE_PASSWORD"}}
    assert {"name": "DATABASE_PASSWORD", "valueFrom": reference} in env
    plan = json.dumps([step.arguments for step in town.rollout("1.5.0").steps])
    for text in (plan, json.dumps(town.deployment), "\n".join(worker.said)):
        assert "hunter2-sentinel" not in text and TOKEN not in text
    assert {"hunter2-sentinel", TOKEN} <= worker.masked


def test_a_variable_may_come_from_a_secret_that_exists(town: Town) -> None:
    town.settings(secrets={"DATABASE_PASSWORD": "pitchey-secrets/database-password"})
    assert town.deploy("1.4.0") is None
    env = town.deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    reference = {"secretKeyRef": {"name": "pitchey-secrets", "key": "database-password"}}
    assert {"name": "DATABASE_PASSWORD", "valueFrom": reference} in env
    assert town.cluster.of("Secret") == []


def test_a_changed_configuration_stops_an_approved_plan(town: Town) -> None:
    plan = town.rollout("1.4.0")
    town.placement.environment.configuration.filter(key="LOG_LEVEL").update(value="debug")
    assert "configuration of production has changed" in str(carry_out(town.worker(), plan))
    assert town.running().version == ""
