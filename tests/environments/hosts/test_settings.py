"""What somebody writes into the configuration file is checked there, in words."""

from typing import Any

import pytest

from environments.drivers.hosts.settings import DEFAULTS, login_for, problems

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
SSH = {"engine": "ssh://deploy@server1", "host_key": KEY, "key": "file:production/key"}

LOGIN = {"username": "AWS", "password": "aws:registry"}


def good(**values: Any) -> dict[str, Any]:
    return {"hosts": {"server1": SSH}, **values}


@pytest.mark.parametrize(
    "given",
    [
        good(),
        good(**DEFAULTS),
        {"hosts": {"a": {"engine": "unix:///run/podman/podman.sock"}}},
        {"hosts": {"a": {"engine": "tls://a:2376", "ca": "file:ca", "certificate": "file:cert", "key": "env:KEY"}}},
        good(balancer={"kind": "none"}),
        good(balancer={"kind": "haproxy", "socket": "/run/haproxy.sock", "backend": "web"}),
        good(registry={"host": "ghcr.io", **LOGIN}),
        good(registry={"host": "registry.pitchey.com:5000", **LOGIN}),
        good(container={"port": 80, "memory_mb": 512, "cpus": 0.5, "restart": "on-failure:5", "volumes": ["/a:/b:ro"]}),
    ],
)
def test_good_settings_have_nothing_wrong(given: dict[str, Any]) -> None:
    assert problems(given) == {}


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        (good(drain=3), "drain", "is no setting of it; there are answer_seconds"),
        (good(checks=0), "checks", "has to be a whole number from 1 to 100"),
        (good(soak_seconds=-1), "soak_seconds", "has to be a number from 0 to 86400"),
        (good(soak_seconds=True), "soak_seconds", "has to be a number"),
        (good(ready_path="ready"), "ready_path", "has to begin with a slash"),
        (good(batch_size=2), "batch_size", "no more than max_unavailable (1)"),
        ({"hosts": {"a": {"engine": "http://a:2375"}}}, "hosts", "a: engine has to be unix:///"),
        ({"hosts": {"a": {"engine": "ssh://u:secret@a"}}}, "hosts", "must not carry a password"),
        ({"hosts": {"a": {"engine": "ssh://u@a"}}}, "hosts", "a: host_key is missing, which ssh:// needs; a: key is"),
        ({"hosts": {"a": {**SSH, "host_key": "AAAA"}}}, "hosts", "host_key is no host key"),
        ({"hosts": {"a": {**SSH, "key": "-----BEGIN"}}}, "hosts", "key is no secret reference"),
        ({"hosts": {"a": {**SSH, "port": 22}}}, "hosts", "port is no key of it"),
        ({"hosts": {"a": {**SSH, "instances": ["x"]}, "b": {**SSH, "instances": ["x"]}}}, "hosts", "x more than once"),
        ({"hosts": ["a"]}, "hosts", "has to be a table"),
        (good(container={"restart": "sometimes"}), "container", 'restart has to be "no"'),
        (good(container={"command": "run it"}), "container", "command has to be a list of words"),
        (good(container={"privileged": True}), "container", "privileged is no key of it"),
        (good(registry={**LOGIN, "host": "ghcr.io", "password": "hunter2"}), "registry", "password is no secret"),
        (good(registry=LOGIN), "registry", "host is missing"),
        (good(registry={"host": "https://ghcr.io", **LOGIN}), "registry", 'up to the slash: "ghcr.io", "docker.io"'),
        (good(registry={"host": "ghcr.io/pitchey", **LOGIN}), "registry", "host has to be how names of its images"),
        (good(registry={"host": "pitchey", **LOGIN}), "registry", "host has to be how names of its images begin"),
        (good(balancer={"kind": "f5"}), "balancer", "kind has to be one of"),
        (good(balancer={"kind": "haproxy", "backend": "web"}), "balancer", "socket has to be the path"),
    ],
)
def test_what_is_wrong_is_said_by_its_key(given: dict[str, Any], key: str, words: str) -> None:
    found = problems(given)
    assert list(found) == [key]
    assert words in found[key]
    assert "secret@" not in found[key]
    assert "hunter2" not in found[key]


@pytest.mark.parametrize(
    ("host", "image", "is_shown"),
    [
        ("ghcr.io", "ghcr.io/pitchey/api", True),
        ("GHCR.io", "ghcr.io/pitchey/api", True),
        ("ghcr.io", "ghcr.io:8443/pitchey/api", False),
        ("ghcr.io", "evil.example/ghcr.io/api", False),
        ("ghcr.io", "ghcr.io.evil.example/api", False),
        ("ghcr.io", "pitchey/api", False),
        *[(host, image, True)
          for host in ("docker.io", "index.docker.io", "registry-1.docker.io")
          for image in ("pitchey/api", "redis", "docker.io/pitchey/api", "index.docker.io/pitchey/api")],
        ("docker.io", "EVIL/api", False),  # which is a host to Docker, for its capitals
        ("", "pitchey/api", False),
    ],
)  # fmt: skip
def test_a_login_is_for_the_images_of_its_registry(host: str, image: str, is_shown: bool) -> None:
    registry = {"host": host, **LOGIN}
    assert login_for(image, registry) == (registry if is_shown else {})
