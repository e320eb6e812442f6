"""The demo's name switch: a name leads to the instances of one site that are ready, or to nobody, and to no other."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.embedded import name_switch, sample_service
from controlplane.embedded.processes import free_port, wait_until

NAME = "api.pitchey.com"
Heard = tuple[int, str, dict[str, Any]]


class World:
    """Instances of two sites, the switch, and the file between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.sites: dict[str, dict[str, Any]] = {}

    def site(self, name: str, count: int = 2) -> None:
        ports = [free_port() for _ in range(count)]
        self.sites[name] = {"instances": [f"http://127.0.0.1:{port}" for port in ports], "database": f"file:{name}"}
        for number, port in enumerate(ports, start=1):
            self.start(f"{name}-{number}", port)

    def start(self, instance: str, port: int) -> None:
        state = self.folder / instance
        state.mkdir(exist_ok=True)
        command = [
            sys.executable, "-I", "-S", sample_service.__file__, "--state-dir", str(state), "--name", instance,
            "--port", str(port), "--version", "1.5.0", "--digest", "sha256:ab",
        ]  # fmt: skip
        self.processes[instance] = subprocess.Popen(command)
        assert wait_until((state / "instance.json").exists, 40)

    def switch(self) -> None:
        command = [sys.executable, "-I", "-S", name_switch.__file__, "--folder", str(self.folder)]
        self.processes["switch"] = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def write(self, site: str, ttl: float = 0.0, **entry: Any) -> None:
        names = {NAME: {"port": self.port, "ttl": ttl, "site": site, "sites": self.sites, **entry}}
        draft = self.folder / "draft"
        draft.write_text(json.dumps(names))
        draft.replace(self.folder / "names.json")

    def ask(self, path: str = "/version", method: str = "GET") -> Heard:
        """Status, site and what it says; 0 for no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            with connection.getresponse() as response:
                return response.status, response.headers["X-Site"], json.loads(response.read() or b"{}")
        except OSError:
            return 0, "", {}
        finally:
            connection.close()

    def leads_to(self, site: str) -> Callable[[], bool]:
        return lambda: self.ask()[:2] == (200, site)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.site("production")
    made.site("dr")
    made.write("production")
    made.switch()
    assert wait_until(made.leads_to("production"), 40)
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()


def test_a_name_leads_to_the_instances_of_its_site_in_turn(world: World) -> None:
    names = {world.ask()[2]["name"] for _ in range(6)}
    assert names == {"production-1", "production-2"}


def test_an_answer_is_handed_on_as_it_is(world: World) -> None:
    assert world.ask("/health") in [
        (200, "production", {"status": "ok", "name": f"production-{n}", "version": "1.5.0"}) for n in (1, 2)
    ]
    assert world.ask("/nowhere")[0] == 404
    assert world.ask("/version", "POST")[0] == 405
    assert world.ask("/health", "HEAD") == (200, "production", {})


def test_a_change_of_the_file_moves_people_to_the_other_site(world: World) -> None:
    world.write("dr")
    assert wait_until(world.leads_to("dr"), 40)
    assert {world.ask()[1] for _ in range(6)} == {"dr"}


def test_a_name_that_stands_for_nobody_says_so(world: World) -> None:
    world.write("")
    assert wait_until(lambda: world.ask()[0] == 503, 40)
    assert world.ask() == (503, "", {"error": "api.pitchey.com stands for nobody just now"})


def test_nobody_is_sent_to_an_instance_out_of_rotation(world: World) -> None:
    (world.folder / "production-1" / "out-of-rotation").touch()
    assert wait_until(lambda: {world.ask()[2]["name"] for _ in range(4)} == {"production-2"}, 40)


def test_an_instance_that_is_gone_costs_nobody_a_request(world: World) -> None:
    world.processes["production-1"].kill()
    world.processes["production-1"].wait()
    assert [world.ask()[0] for _ in range(6)] == [200] * 6


def test_a_site_without_any_instance_is_an_error_and_never_the_other_site(world: World) -> None:
    for name in ("production-1", "production-2"):
        world.processes[name].kill()
        world.processes[name].wait()
    assert world.ask() == (503, "production", {"error": "no instance of production is ready"})


def test_an_instance_that_comes_back_is_asked_again(world: World) -> None:
    for number in (1, 2):
        world.processes[f"production-{number}"].kill()
        world.processes[f"production-{number}"].wait()
    assert wait_until(lambda: world.ask()[0] == 503, 40)
    port = int(world.sites["production"]["instances"][0].rpartition(":")[2])
    world.start("production-1", port)
    assert wait_until(world.leads_to("production"), 40)


def test_what_was_heard_of_a_name_is_believed_for_its_time() -> None:
    switch = name_switch.Switch(Path("nowhere"))
    switch.entries = {NAME: {"port": 1, "ttl": 3600, "site": "production", "sites": {}}}
    assert switch.resolve(NAME).site == "production"
    switch.entries = {NAME: {"port": 1, "ttl": 0, "site": "dr", "sites": {}}}
    assert switch.resolve(NAME).site == "production"


def test_the_switch_tells_what_a_name_stands_for_without_asking_an_instance(world: World) -> None:
    world.write("elsewhere", ttl=0.01)
    assert wait_until(lambda: world.ask("/.switch")[2].get("site") == "elsewhere", 40)
    assert world.ask("/.switch") == (200, "elsewhere", {"name": NAME, "site": "elsewhere", "ttl": 0.01})


def test_a_name_that_is_taken_away_is_no_longer_there(world: World) -> None:
    world.write("production", port=None)
    assert wait_until(lambda: world.ask()[0] == 0, 40)


def test_a_file_that_cannot_be_read_changes_nothing(world: World) -> None:
    (world.folder / "names.json").write_text("{")
    for _ in range(5):
        assert world.ask()[:2] == (200, "production")
    switch = name_switch.Switch(world.folder, {"a": {}})
    switch.look()
    assert switch.entries == {"a": {}}
