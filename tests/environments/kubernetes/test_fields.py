"""Two descriptions of an object are compared by what was written, not by how a server writes it."""

from fractions import Fraction
from typing import Any

import pytest

from environments.drivers.kubernetes.fields import amount, beyond, held_by, unlike


@pytest.mark.parametrize(
    ("text", "size"),
    [("0.5", Fraction(1, 2)), ("500m", Fraction(1, 2)), ("1Gi", 2**30), ("1e3", 1000), ("1k", 1000), ("2E", 2 * 10**18),
     ("100n", Fraction(1, 10**7)), ("1.5Ki", 1536)],
)  # fmt: skip
def test_an_amount_is_a_number_with_a_unit(text: str, size: Fraction) -> None:
    assert amount(text) == size


@pytest.mark.parametrize("text", ["", "many", "1Zi", "1.2.3", "m"])
def test_anything_else_is_none(text: str) -> None:
    assert amount(text) is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),  # filled in
        ({"a": 0, "b": "", "c": [], "d": {}}, {}),  # left out because it is empty
        ({"env": [{"name": "A"}, {"name": "B"}]}, {"env": [{"name": "B"}, {"name": "A"}, {"name": "C"}]}),
        ({"ports": [{"containerPort": 53, "protocol": "UDP"}]},
         {"ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP", "name": "d"}]}),
        ({"limits": {"cpu": "1000m", "memory": "1Gi"}}, {"limits": {"cpu": "1", "memory": "1073741824"}}),
        ({"creationTimestamp": None}, {"creationTimestamp": "2026-11-29T07:00:00Z"}),
    ],
)  # fmt: skip
def test_alike(wanted: Any, found: Any) -> None:
    assert unlike(wanted, found) == []


@pytest.mark.parametrize(
    ("wanted", "found", "where"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b"]),
        ({"a": "", "b": 0}, {"a": "x", "b": 1}, ["a", "b"]),
        ({"a": {"b": 1}}, {}, ["a"]),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}, ["env.A.value"]),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": []}, ["env.A"]),
        ({"command": ["a", "b"]}, {"command": ["b", "a"]}, ["command.0", "command.1"]),
        ({"command": ["a"]}, {"command": ["a", "b"]}, ["command"]),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1001m"}}, ["limits.cpu"]),
        ({"env": [{"name": "A", "value": "1000m"}]}, {"env": [{"name": "A", "value": "1"}]}, ["env.A.value"]),
    ],
)
def test_unlike_is_said_by_path_and_never_by_value(wanted: Any, found: Any, where: list[str]) -> None:
    assert unlike(wanted, found) == where


HELD: dict[str, Any] = {
    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
    "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}, 'k:{"name":"B"}': {".": {}, "f:name": {}}},
}


def test_beyond_is_what_we_hold_and_the_other_does_not_have() -> None:
    found = {"metadata": {"labels": {"app": "x", "theirs": "y"}}, "env": [{"name": "A"}, {"name": "B"}, {"name": "C"}]}
    assert beyond(HELD, found, found) == []
    assert beyond(HELD, found, {"metadata": {"labels": {}}, "env": [{"name": "A"}]}) == ["metadata.labels.app", "env.B"]
    assert beyond({}, found, {}) == []


def test_only_what_was_applied_is_held() -> None:
    entries = [
        {"manager": "controlplane", "operation": "Update", "fieldsV1": {"f:status": {}}},
        {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}},
        {"manager": "controlplane", "operation": "Apply", "fieldsV1": HELD},
    ]
    assert held_by({"metadata": {"managedFields": entries}}, "controlplane") == HELD
    assert held_by({"metadata": {}}, "controlplane") == {}
