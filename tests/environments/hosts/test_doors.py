"""An engine behind SSH or TLS is reached only where it is who the settings say, and images come by digest."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.embedded.images import sample_archive
from controlplane.operations.errors import StepError
from controlplane.operations.masking import MASK
from controlplane.operations.plans import StepSpec
from environments.drivers.hosts.engine import Engine
from tests.deployments.leaky import leaking
from tests.deployments.outputs import where
from tests.environments.fleet import Worker
from tests.environments.hosts.conftest import MakePark, OwnPodman
from tests.environments.hosts.doors import SSHD, Authority, Sshd, tls_door
from tests.environments.hosts.park import Images, Park
from tests.environments.hosts.registry import Registry


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    if not SSHD:
        pytest.skip("openssh-server is not installed")
    with tempfile.TemporaryDirectory() as folder, Sshd(Path(folder)).serving() as server:
        yield server


def behind_ssh(own_podman: OwnPodman, sshd: Sshd, **values: Any) -> dict[str, Any]:
    return {
        "engine": f"ssh://root@127.0.0.1:{sshd.port}",
        "socket": str(own_podman.podman.socket),
        "host_key": sshd.public(),
        "key": f"file:{sshd.folder}/user",
        "answer_seconds": 10.0,
        **values,
    }


@pytest.fixture(scope="module")
def tls(own_podman: OwnPodman) -> Iterator[dict[str, Any]]:
    """How to reach Podman by TLS; other.pem and stranger.pem are of another authority."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder)
        for issued in ("engine", "client"):
            authority.issue(issued)
        Authority(folder, "other").issue("stranger")
        with tls_door(folder, own_podman.podman.socket) as port:
            yield {
                "engine": f"tls://127.0.0.1:{port}", "ca": f"file:{folder}/authority.pem",
                "certificate": f"file:{folder}/client.pem", "key": f"file:{folder}/client.key", "answer_seconds": 10.0,
            }  # fmt: skip


def test_a_rollout_goes_through_ssh_to_a_host_that_lets_nobody_run_a_command(
    park: MakePark, own_podman: OwnPodman, sshd: Sshd
) -> None:
    host = behind_ssh(own_podman, sshd)
    del host["answer_seconds"]
    production = park(1, hosts={"server1": host})
    worker = production.worker()
    assert production.deploy("1.4.0", worker) is None
    assert production.deploy("1.5.0") is None
    assert production.versions() == ["1.5.0"]
    key = (sshd.folder / "user").read_text().rstrip("\n")
    assert key in worker.masked
    assert not [line for line in worker.said if "PRIVATE KEY" in line]


def test_a_large_answer_comes_whole_through_ssh(images: Images, own_podman: OwnPodman, sshd: Sshd) -> None:
    release = images.release("1.5.0")
    image = f"registry.test/pitchey-backend@{release.digest}"
    recipe = {"image": image, "command": ["/none"], "entrypoint": [], "user": "",
              "port": 80, "published": None, "health_command": [], "stop_signal": "", "network": "host", "memory_mb": 0,
              "cpus": 0, "pids": 0, "restart": "no", "volumes": [], "read_only": False}  # fmt: skip
    long = {"LONG": "x" * 300_000}
    with Engine.at(behind_ssh(own_podman, sshd)) as engine:
        made = engine.create("large", recipe, long, {"variables": "LONG", "fence": "1"})
        found = engine.find("large")
        engine.remove(made)
    assert found is not None
    assert found.variables == long


WRONG_SSH = {
    "another key of the same kind": (
        {"host_key": "other"},
        r"did not show the host key that the settings name, but SHA256",
    ),
    "a key of another kind": ({"host_key": "ecdsa"}, "it has none of that kind"),
    "our key is not known there": ({"key": "other"}, r"does not take the key file:.*/other for root"),
    "a public key for a private one": ({"key": "user.pub"}, "is no private key of SSH without a passphrase"),
}


@pytest.mark.parametrize(("values", "words"), WRONG_SSH.values(), ids=WRONG_SSH)
def test_ssh_is_refused_for_good(own_podman: OwnPodman, sshd: Sshd, values: dict[str, str], words: str) -> None:
    given = {
        key: sshd.public(name) if key == "host_key" else f"file:{sshd.folder}/{name}" for key, name in values.items()
    }
    with pytest.raises(StepError, match=words) as caught, Engine.at(behind_ssh(own_podman, sshd, **given)):
        pass
    assert caught.value.permanent


def test_a_socket_that_is_not_there_behind_ssh_is_said(own_podman: OwnPodman, sshd: Sshd) -> None:
    host = behind_ssh(own_podman, sshd, socket="/nowhere.sock")
    with pytest.raises(StepError, match="does not let us to its socket /nowhere"), Engine.at(host):
        pass


def test_tls_is_spoken_where_both_sides_know_each_other(images: Images, tls: dict[str, Any]) -> None:
    digest = images.release("1.5.0").digest
    with Engine.at(tls) as engine:
        assert engine.image_id(f"registry.test/pitchey-backend@{digest}").startswith("sha256:")
        assert engine.find("nobody") is None


@pytest.mark.parametrize(
    ("key", "name", "permanent"), [("ca", "other.pem", True), ("certificate", "stranger.pem", False)]
)
def test_tls_is_refused_where_one_side_does_not_know_the_other(
    tls: dict[str, Any], key: str, name: str, permanent: bool
) -> None:
    folder = Path(tls["ca"].removeprefix("file:")).parent
    given = {**tls, key: f"file:{folder}/{name}"}
    if key == "certificate":
        given["key"] = f"file:{folder}/stranger.key"
    with pytest.raises(StepError) as caught, Engine.at(given):
        pass
    assert caught.value.permanent is permanent
    assert "PRIVATE" not in str(caught.value)


def test_a_certificate_without_its_key_is_said(tls: dict[str, Any]) -> None:
    folder = Path(tls["ca"].removeprefix("file:")).parent
    given = {**tls, "key": f"file:{folder}/stranger.key"}
    with pytest.raises(StepError, match=r"The certificates for 127\.0\.0\.1 cannot be used"), Engine.at(given):
        pass


def test_an_image_is_pulled_by_digest_with_a_login_that_nobody_sees(
    park: MakePark, own_podman: OwnPodman, data_dir: Path
) -> None:
    with closing(Registry(own_podman.registry_port)) as registry:
        production = park(1, registry=login(data_dir, registry.host))
        digest, archive = sample_archive(registry.repository, "1.5.9")  # which this Podman has never seen
        registry.put(archive)
        pull = pull_of(production, registry, digest)
        worker = production.worker()
        worker.do(pull)
        assert digest in registry.served
        assert Registry.PASSWORD in worker.masked
        assert worker.effects == [("pulled", "production-1", {"digest": digest})]
        served = len(registry.served)
        worker.do(pull)
        assert len(registry.served) == served  # it is there


def test_a_password_is_shown_to_no_registry_but_its_own(park: MakePark, own_podman: OwnPodman, data_dir: Path) -> None:
    """Whoever may name an image may have it pulled from anywhere."""
    production = park(1, registry=login(data_dir, "ghcr.io"))
    with closing(Registry(own_podman.registry_port)) as registry:
        worker = production.worker()
        with pytest.raises(StepError, match=r"authentication required|unauthorized|who are you"):
            worker.do(pull_of(production, registry, "sha256:" + "b" * 64))
    assert registry.login not in registry.shown
    assert "production-1: without a password, as the registry of the settings is another one" in worker.said


def test_no_error_of_a_pull_says_the_password(own_podman: OwnPodman) -> None:
    """The engine passes on what a registry answers, and this one quotes it."""
    given = {"username": "robot", "password": "sentinel-of-the-registry"}
    there = {"engine": own_podman.podman.url, "answer_seconds": 10.0}
    with (
        leaking(own_podman.registry_port) as host,
        Engine.at(there) as engine,
        pytest.raises(StepError, match=f"not with Basic .*{MASK}") as told,
    ):
        engine.pull(f"{host}/pitchey-backend", "sha256:" + "c" * 64, given, 30, print)
    assert where(given["password"], iter([("the error", str(told.value))])) == []


def login(data_dir: Path, host: str) -> dict[str, str]:
    """The driver settings for a registry with the password of the tests'."""
    (data_dir / "secrets").mkdir()
    (data_dir / "secrets" / "registry").write_text(Registry.PASSWORD)
    return {"host": host, "username": Registry.USER, "password": "file:registry"}


@dataclass
class Slow(Worker):
    """Its time is over once it has acted for a while."""

    def remaining(self) -> float:
        return 0.0 if self.said else 30.0


def test_a_pull_that_goes_on_and_on_fails_within_its_time(
    park: MakePark, own_podman: OwnPodman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that always has something to say is never silent: only the deadline ends it."""
    production = park(1, pull_seconds=7.0)
    heard: list[str] = []

    def trickle(engine: Engine, *arguments: Any) -> None:
        for number in range(100):
            heard.append(f"layer {number}")
            arguments[-1](heard[-1])

    monkeypatch.setattr(Engine, "pull", trickle)
    with closing(Registry(own_podman.registry_port)) as registry:
        digest = "sha256:" + "a" * 64
        with pytest.raises(StepError, match=r"server1: sha256:a+ was not pulled .* Raise pull_seconds \(7\)") as caught:
            Slow(fence=99).do(pull_of(production, registry, digest))
    assert heard == ["layer 0", "layer 1"]
    assert not caught.value.permanent, "what has come already need not come again"


def pull_of(production: Park, registry: Registry, digest: str) -> StepSpec:
    """The step that pulls, from that registry."""
    rollout = production.rollout("1.5.0")
    step = next(one for one in rollout.steps if one.key == "production-1/pull")
    return replace(step, arguments={**step.arguments, "repository": registry.repository, "digest": digest})
