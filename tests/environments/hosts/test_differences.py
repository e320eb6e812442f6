"""What runs otherwise than it was deployed is found by asking the engines and the load balancer."""

import pytest
import yaml

from controlplane.operations.errors import StepError
from environments.drivers.base import Difference, PartlyUnknown
from environments.models import ConfigEntry
from environments.secrets import Reference
from tests.environments.hosts.conftest import MakePark
from tests.environments.hosts.paper_balancer import PaperBalancer
from tests.environments.hosts.park import DRIVER, Park

PAPER = {"kind": "paper", "pool": "web"}


def differences(park: Park, version: str = "1.4.0") -> list[Difference]:
    found: list[Difference] = DRIVER.differences(park.target, park.images.release(version))
    return found


def test_what_is_as_it_was_deployed_has_none_and_each_kind_is_told(park: MakePark, balancer: PaperBalancer) -> None:
    production = park(2, balancer=PAPER)
    production.deploy("1.4.0")
    assert differences(production) == []
    release = production.images.release("1.5.0")
    assert [(one.what, one.subject, one.wanted) for one in differences(production, "1.5.0")] == [
        ("image", f"production-{number}", f"1.5.0 {release.digest}") for number in (1, 2)
    ]
    del balancer.members["production-2"]
    assert differences(production) == [
        Difference("registration", "production-2", "registered at the load balancer", "absent")
    ]
    balancer.add({}, balancer.members["production-1"].__class__("production-2", "127.0.0.1", 1))
    ConfigEntry.objects.create(environment=production.placement.environment, key="LOG_LEVEL", value="debug")
    assert {one.what for one in differences(production)} == {"environment"}
    production.placement.environment.configuration.all().delete()
    container = production.placement.environment.driver_settings["container"]
    production.settings(container={**container, "memory_mb": 99})
    assert [one.found for one in differences(production)] == ["other memory_mb"] * 2


def test_an_instance_that_ended_and_a_container_too_many_are_counted(park: MakePark) -> None:
    production = park(1)
    production.deploy("1.4.0")
    found = production.container()
    assert found is not None
    with production.engine() as engine:
        engine.stop(found.id, 5)
        labels = {"environment": "production", "service": "pitchey-backend", "fence": "1"}
        recipe = {**found.recipe, "command": ["/usr/bin/sleep", "60"]}
        engine.start(engine.create("pitchey-backend.by-hand", recipe, {}, labels))
    assert [(one.what, one.subject, one.found) for one in differences(production)] == [
        ("count", "production-1", "1.4.0 ended (exit code 0)"),
        ("count", "server1", "pitchey-backend.by-hand runs"),
    ]


def test_somebody_elses_container_is_told_by_its_image(park: MakePark) -> None:
    production = park(1)
    production.deploy("1.4.0")
    stranger = production.somebody_starts("1.5.0")
    old, new = production.images.release("1.4.0"), production.images.release("1.5.0")
    whose = f"container {stranger[:12]} of {new.image}, which somebody else started"
    assert differences(production) == [
        Difference("image", "production-1", f"1.4.0 {old.digest}", f"{new.digest}, {whose}")
    ]
    wanted = "started with the configuration and settings of now"
    assert differences(production, "1.5.0") == [Difference("environment", "production-1", wanted, whose)]
    with production.engine() as engine:
        engine.stop(stranger, 5)
    assert differences(production) == [
        Difference("count", "production-1", "1.4.0 runs", f"{whose}, has its name and ended")
    ]


def test_what_cannot_be_asked_is_an_error_and_no_difference(park: MakePark) -> None:
    production = park(1, hosts={"server1": {"engine": "unix:///tmp/nobody-there.sock"}})
    with pytest.raises(StepError, match="server1: The engine's socket /tmp/nobody-there"):
        differences(production)


def test_the_compose_file_says_what_is_run(park: MakePark) -> None:
    production = park(1)
    container = production.placement.environment.driver_settings["container"]
    production.settings(container={**container, "memory_mb": 64, "cpus": 0.5, "pids": 40, "restart": "on-failure:3",
                                   "health_command": ["/usr/bin/true"]})  # fmt: skip
    production.deploy("1.5.0")
    variables = {
        "DB_PASSWORD": Reference("${file:production/db}"),
        "DATABASE_URL": Reference("postgresql://u:${file:production/db}@db"),
        "COST": "5$",
    }
    document = DRIVER.documents(production.target, production.images.release("1.5.0"), variables)[0]
    assert document.name == "compose-server1.yaml"
    service = yaml.safe_load(document.text)["services"]["pitchey-backend.production-1"]
    with production.engine() as engine:
        runs = engine._client.inspect_container("pitchey-backend.production-1")
    host, config = runs["HostConfig"], runs["Config"]
    assert service["image"].endswith(production.images.release("1.5.0").digest)
    assert service["command"] == config["Cmd"]
    assert (service["network_mode"], service["restart"]) == (host["NetworkMode"], "on-failure:3")
    assert int(service["mem_limit"].removesuffix("m")) * 2**20 == host["Memory"]
    assert (service["cpus"] * 1e9, service["pids_limit"]) == (host["NanoCpus"], host["PidsLimit"])
    assert [one.rpartition(":")[0] for one in service["volumes"]]  # what is mounted is in it
    assert service["healthcheck"]["test"] == config["Healthcheck"]["Test"]
    assert service["environment"] == {
        "DB_PASSWORD": "${DB_PASSWORD:?file:production/db}",
        "DATABASE_URL": "${DATABASE_URL:?postgresql://u:file:production/db@db}",
        "COST": "5$$",
    }


def test_a_host_that_does_not_answer_hides_nothing_of_the_others(park: MakePark) -> None:
    production = park(3)
    production.deploy("1.4.0")
    hosts = production.placement.environment.driver_settings["hosts"]
    nobody = {"engine": "unix:///tmp/nobody-there.sock", "instances": ["production-1"]}
    production.settings(hosts={**hosts, "server1": nobody})
    found = production.container(2)
    assert found is not None
    with production.engine() as engine:
        engine.stop(found.id, 5)
    with pytest.raises(PartlyUnknown, match="production-1: server1: The engine's socket") as caught:
        differences(production)
    assert [(one.what, one.subject) for one in caught.value.differences] == [("count", "production-2")]
    assert [one.subject for one in caught.value.unheard] == ["production-1", "server1"]


def test_a_load_balancer_that_does_not_answer_hides_nothing_of_the_hosts(
    park: MakePark, balancer: PaperBalancer
) -> None:
    production = park(2, balancer=PAPER)
    production.deploy("1.4.0")
    balancer.away = 2
    with pytest.raises(PartlyUnknown, match="the load balancer: the balancer is away") as caught:
        differences(production, "1.5.0")
    assert [(one.what, one.subject) for one in caught.value.differences] == [
        ("image", "production-1"), ("image", "production-2"),
    ]  # fmt: skip
    assert not any(one.concerns("image", "production-1") for one in caught.value.unheard)
    assert any(one.concerns("registration", "production-1") for one in caught.value.unheard)
