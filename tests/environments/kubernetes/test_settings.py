"""What somebody writes into the configuration file is checked there, in words, by its key; each rule has a case."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from controlplane.operations.errors import StepError
from environments.drivers.base import Target
from environments.drivers.kubernetes.settings import (
    ACCESS,
    AUTOSCALE,
    CHECKED,
    DEFAULTS,
    NEEDED,
    RESOURCES,
    TABLES,
    place_of,
    problems,
)

WHOLE = "has to be a whole number from"
SECONDS = "has to be a number of seconds above 0"
NAMED = "has to be a name as Kubernetes takes it: small letters, digits and hyphens"
REFERENCE = 'is no secret reference; write "file:PATH", "env:NAME" or "aws:NAME"'

WRONG: list[tuple[str, Any, str]] = [
    ("drain", 3, "is no setting of it; there are access, access_key, answer_seconds, autoscale"),
    ("access", "ssh", "has to be one of: kubeconfig, in-cluster, eks, token"),
    ("context", 3, "has to be text"),
    ("namespace", "", NAMED),
    ("namespace", "Production", NAMED),
    ("name", "a.b", NAMED),
    ("name", "x" * 64, NAMED),
    ("container", "-web", NAMED),
    ("service_account", 3, NAMED),
    ("pull_secret", "has space", NAMED),
    ("force", "yes", "has to be true or false"),
    ("replicas", -1, f"{WHOLE} 0 to 1000"),
    ("replicas", True, f"{WHOLE} 0 to 1000"),
    ("port", 0, f"{WHOLE} 1 to 65535"),
    ("service_port", 65_536, f"{WHOLE} 1 to 65535"),
    ("service_type", "ExternalName", "has to be one of: LoadBalancer, ClusterIP, NodePort, none"),
    ("ready_path", "ready", "has to begin with a slash"),
    ("liveness_delay", -1, f"{WHOLE} 0 to 3600"),
    ("readiness_delay", 3601, f"{WHOLE} 0 to 3600"),
    ("grace_seconds", 1.5, f"{WHOLE} 0 to 3600"),
    ("liveness_period", 0, f"{WHOLE} 1 to 3600"),
    ("readiness_period", 0, f"{WHOLE} 1 to 3600"),
    ("max_surge", "25%", f"{WHOLE} 0 to 100"),
    ("max_unavailable", 101, f"{WHOLE} 0 to 100"),
    ("log_lines", -1, f"{WHOLE} 0 to 100"),
    ("history", 0, f"{WHOLE} 1 to 100"),
    ("rollout_seconds", 0, SECONDS),
    ("poll_seconds", "5", SECONDS),
    ("answer_seconds", True, SECONDS),
    ("retry_seconds", -2.0, SECONDS),
    ("check_interval", 86_401, SECONDS),
    ("progress_seconds", 0, f"{WHOLE} 1 to 86400"),
    ("restarts", 0, f"{WHOLE} 1 to 100"),
    ("checks", 0, f"{WHOLE} 1 to 100"),
    ("failures", 101, f"{WHOLE} 1 to 100"),
    ("kubeconfig", "", "has to be text"),
    ("kubeconfig", "apiVersion: v1", REFERENCE),
    ("server", "http://10.0.0.1:6443", "has to begin with https://: credentials are sent to it"),
    ("server", "10.0.0.1", "has to begin with http:// or https:// and name a host"),
    ("server", "https://u:hunter2@10.0.0.1", "must not carry a user name or a password"),
    ("server", "https://169.254.169.254", "metadata"),
    ("ca", "-----BEGIN CERTIFICATE-----", REFERENCE),
    ("ca", "file:../../ca.pem", "must not contain .."),
    ("token", "hunter2", REFERENCE),
    ("access_key", "AKIAIOSFODNN7EXAMPLE", REFERENCE),
    ("secret_key", 3, "has to be text"),
    ("cluster", 3, "has to be text"),
    ("region", "", "has to be text"),
    ("resources", [], "has to be a table"),
    ("resources", {"request": {}}, "request is no key of it; there are requests, limits"),
    ("resources", {"limits": {"cpu": 2}}, 'limits has to be a table as in { memory = "2Gi", cpu = "1000m" }'),
    ("resources", {"limits": {"cpu": "many"}}, "limits has to be a table as in"),
    ("resources", {"limits": {"gpu": "1"}}, "limits has to be a table as in"),
    ("resources", {"requests": "2Gi"}, "requests has to be a table as in"),
    ("autoscale", True, "has to be a table"),
    ("autoscale", {"most": 3}, "most is no key of it; there are min, max, cpu, memory"),
    ("autoscale", {"cpu": 0.7}, "has to hold whole numbers from 0 to 1000"),
    ("autoscale", {"min": 5, "max": 4}, "has min 5 and max 4: 1 ≤ min ≤ max has to hold"),
    ("autoscale", {"min": 0}, "has min 0 and max 10"),
    ("autoscale", {"cpu": 0, "memory": 0}, "needs cpu or memory above 0 to go by"),
    ("secrets", "DATABASE_URL", "has to be a table"),
    ("secrets", {"DATABASE_URL": "no-key"}, "DATABASE_URL has to name a Secret and its key, as in DATABASE_URL ="),
    ("secrets", {"1ST": "a/b"}, "1ST has to name a Secret and its key"),
    ("secrets", {"A": "Big/key"}, "A has to name a Secret and its key"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=lambda value: str(value)[:30])
def test_what_is_wrong_is_said_by_its_key(key: str, value: Any, words: str) -> None:
    found = problems({key: value})
    assert list(found) == [key]
    assert words in found[key]
    assert "hunter2" not in found[key] and "AKIA" not in found[key]


def test_each_setting_has_a_case_of_being_wrong() -> None:
    tried = {key for key, _, _ in WRONG}
    assert not {*DEFAULTS, *ACCESS, *TABLES} - tried
    assert set(CHECKED) == set(DEFAULTS)


def test_no_pod_could_be_renewed() -> None:
    words = "and max_unavailable must not both be 0: no pod could ever be renewed"
    assert problems({"max_surge": 0}) == {"max_surge": words}
    assert problems({"max_surge": 0, "max_unavailable": 1}) == {}


@pytest.mark.parametrize(
    "given",
    [
        {key: value for key, value in DEFAULTS.items() if key != "namespace"},
        {"namespace": "production", "server": "https://10.0.0.1:6443", "token": "env:TOKEN", "ca": "file:ca.pem"},
        {"server": "http://127.0.0.1:8001", "ready_path": "", "replicas": 0, "service_type": "none"},
        {"resources": {"limits": {"memory": "1.5Gi", "cpu": "0.5", "ephemeral-storage": "1G"}}},
        {"autoscale": {}, "secrets": {"DATABASE_URL": "pitchey-secrets/database-url"}},
        {"autoscale": {"min": 1, "max": 1, "cpu": 0}},
    ],
)
def test_good_settings_have_nothing_wrong(given: dict[str, Any]) -> None:
    assert problems(given) == {}


def target(**settings: Any) -> Target:
    return Target("production", "api", (), "", "/health", settings)


@pytest.mark.parametrize(("way", "key"), [(way, key) for way, keys in NEEDED.items() for key in keys])
def test_what_a_way_of_access_needs_is_missed_in_words(way: str, key: str) -> None:
    given = {"kubeconfig": "file:k", "server": "https://10.0.0.1", "token": "env:T", "ca": "file:ca", "cluster": "c",
             "region": "us-east-1"}  # fmt: skip
    del given[key]
    with pytest.raises(StepError) as found:
        place_of(target(namespace="production", access=way, **given))
    words = f"The driver settings of production need a correction: {key} is missing, which access {way} needs."
    assert str(found.value) == words and found.value.permanent


def test_a_namespace_is_needed_and_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(StepError, match=r"namespace is missing; replicas has to be .*; kubeconfig is missing"):
        place_of(target(replicas=-1))


def test_a_place_holds_references_and_only_what_access_is_made_of() -> None:
    place = place_of(target(namespace="production", access="in-cluster", configuration="abc", port=80))
    assert place["access"] == {"way": "in-cluster", "context": ""}
    assert (place["name"], place["container"], place["instance"]) == ("api", "api", "api")


# --- the page of the driver ---------------------------------------------------------------------------

PAGE = Path(__file__).parents[3] / "docs" / "drivers-kubernetes.md"
CODE = re.compile(r"`([^`]+)`")


def rows(heading: str) -> list[list[str]]:
    """The cells of a table, by what its first column is called."""
    lines = iter(PAGE.read_text().splitlines())
    assert any(line.startswith(f"| {heading} |") for line in lines), heading
    cells = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells[1:]


def test_every_setting_is_documented_with_what_is_usual() -> None:
    usual: dict[str, str] = {}
    for first, _, last in rows("setting"):
        names = CODE.findall(first)
        parts = last.split(", ") if len(names) > 1 else [last]
        usual |= dict(zip(names, parts, strict=True))
    assert usual.keys() == {*DEFAULTS, *TABLES}
    for key, value in DEFAULTS.items():
        if value == "":
            assert not re.search(r"[0-9`]", usual[key]), key
        elif isinstance(value, str | bool):
            assert usual[key].strip("`") == (value if isinstance(value, str) else str(value).lower()), key
        else:
            assert float(usual[key]) == value, key
    for key, value in (("autoscale", AUTOSCALE), ("resources", RESOURCES)):
        (written,) = CODE.findall(usual[key])
        assert tomllib.loads(f"it = {written}")["it"] == value


def test_what_each_way_of_access_needs_is_documented() -> None:
    needed = {CODE.findall(first)[0]: set(CODE.findall(middle)) for first, middle, _ in rows("way")}
    assert needed == {way: set(keys) for way, keys in NEEDED.items()}
    every = set(CODE.findall(" ".join(cell for row in rows("way") for cell in row[1:])))
    assert every == {*ACCESS, "context"}
