"""A Deployment could go back while its ReplicaSet is kept and the registry, or else every node that runs it, has it."""

import base64
import json

import pytest

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from environments.drivers.base import Kept, Software
from tests.backups.registries import Content, Wire
from tests.environments.hosts.park import carry_out
from tests.environments.kubernetes.town import DRIVER, NAME, Town


@pytest.fixture
def running(town: Town, content: Content, repository: str) -> Software:
    """A release out of the registry, deployed."""
    software = Software("1.4.0", f"{repository}:1.4.0", content.image(b"a layer"))
    assert carry_out(town.worker(), DRIVER.rollout(town.target, [town.running()], software)) is None
    return software


def kept(town: Town, software: Software) -> Kept:
    found: Kept = DRIVER.kept(town.target, software)
    return found


def test_the_registry_has_it_or_not(town: Town, running: Software, content: Content) -> None:
    found = kept(town, running)
    assert (found.outcome, "and its image is in the registry" in found.words) == (Outcome.PASSED, True)
    content.manifests.clear()
    found = kept(town, running)
    assert (found.outcome, "does not have the image of 1.4.0 any more" in found.words) == (Outcome.FAILED, True)


def test_it_signs_in_as_the_pods_do(town: Town, running: Software, wire: Wire, repository: str) -> None:
    wire.auth = "basic"
    town.settings(pull_secret="pull")
    auth = base64.b64encode(":".join(wire.user).encode()).decode()
    config = json.dumps({"auths": {repository.partition("/")[0]: {"auth": auth}}}).encode()
    data = {".dockerconfigjson": base64.b64encode(config).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}, "data": data}
    town.cluster.create("Secret", secret, "kubectl")
    assert "and its image is in the registry" in kept(town, running).words


def test_where_the_registry_cannot_be_asked_the_nodes_count_and_that_is_said(
    town: Town, running: Software, wire: Wire
) -> None:
    wire.auth = "basic"
    for number, pod in enumerate(town.cluster.of("Pod")):
        pod["spec"] = {**pod.get("spec", {}), "nodeName": f"node-{number}"}
    found = kept(town, running)
    assert found.outcome is Outcome.PASSED
    assert "on the 3 nodes that run it (node-0, node-1, node-2); whether other nodes could pull it is not known" in (
        found.words
    )
    assert "without a password" in found.words
    town.cluster.of("Pod")[0]["status"]["containerStatuses"][0]["imageID"] = "x@sha256:another"
    with pytest.raises(StepError, match="is not known: the registry") as told:
        kept(town, running)
    assert told.value.permanent


def test_nothing_there_is_no_way_back(town: Town, running: Software) -> None:
    assert "runs another image than 2.0.0" in kept(town, Software("2.0.0", running.image, "sha256:other")).words
    town.cluster.delete("Deployment", NAME, {})
    found = kept(town, running)
    assert (found.outcome, "no Deployment" in found.words) == (Outcome.FAILED, True)


def test_a_cluster_that_does_not_answer_proves_nothing(town: Town, running: Software) -> None:
    town.settings(server="http://127.0.0.1:1", answer_seconds=1.0)
    with pytest.raises(StepError, match="does not answer") as told:
        kept(town, running)
    assert not told.value.permanent
