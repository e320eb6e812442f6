"""The plan of a rollout over hosts is pure: batches, canary, order, and what goes back when something fails."""

from dataclasses import replace
from typing import Any

import pytest

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Plan, StepSpec
from environments.drivers import DRIVERS
from environments.drivers.base import Instance, Rollout, Running, Software, Target
from environments.drivers.hosts.driver import batches, ordered

DRIVER: Any = DRIVERS["hosts"]
TO = Software("1.5.0", "registry.test/api:1.5.0", "sha256:" + "5" * 64)
HAPROXY = {"kind": "haproxy", "socket": "/run/haproxy.sock", "backend": "web"}


def target(count: int = 4, **settings: Any) -> Target:
    names = [f"production-{number}" for number in range(1, count + 1)]
    hosts = {f"server{name[-1]}": {"engine": "unix:///run/podman.sock", "instances": [name]} for name in names}
    instances = tuple(Instance(name, f"http://10.0.0.{name[-1]}:8000") for name in names)
    given = {"hosts": hosts, "balancer": HAPROXY, "configuration": "abc", **settings}
    return Target("production", "api", instances, "", "/health", given)


def running(count: int = 4, version: str = "1.4.0") -> list[Running]:
    return [
        Running(f"production-{number}", version, f"sha256:{version}", f"registry.test/api@sha256:{version}")
        for number in range(1, count + 1)
    ]


def rollout(there: Target, runs: list[Running] | None = None) -> Rollout:
    found: Rollout = DRIVER.rollout(there, running(len(there.instances)) if runs is None else runs, TO)
    return found


def step(plan: Rollout, key: str) -> StepSpec:
    return next(one for one in (*plan.steps, *plan.recovery) if one.key == key)


def test_one_host_after_the_other_in_this_order_of_steps() -> None:
    keys = [one.key for one in rollout(target(2)).steps]
    each = ["pull", "room", "deregister", "drain", "stop", "run", "check", "register", "serving", "soak"]
    assert keys == [f"production-{number}/{key}" for number in (1, 2) for key in each] + ["verify"]


def test_the_image_is_pulled_by_digest_and_run_by_digest() -> None:
    plan = rollout(target(1))
    assert step(plan, "production-1/pull").arguments["digest"] == TO.digest
    assert step(plan, "production-1/run").arguments["recipe"]["image"] == f"registry.test/api@{TO.digest}"


def test_the_canary_is_first_and_alone_then_the_order_then_batches() -> None:
    there = target(4, canary="production-3", order=["production-4"], batch_size=2, max_unavailable=2)
    assert [one.name for one in ordered(there)] == ["production-3", "production-4", "production-1", "production-2"]
    assert [[one.name for one in batch] for batch in batches(there, ordered(there))] == [
        ["production-3"], ["production-4", "production-1"], ["production-2"],
    ]  # fmt: skip
    groups = list(dict.fromkeys(one.group for one in rollout(there).steps))
    assert groups == ["production-3", "production-4, production-1", "production-2", ""]


def test_a_batch_drains_side_by_side_and_soaks_once() -> None:
    plan = rollout(target(2, batch_size=2, max_unavailable=2))
    keys = [one.key for one in plan.steps]
    assert keys.index("production-2/deregister") < keys.index("production-1/drain") < keys.index("production-1/stop")
    soaks = [one for one in plan.steps if one.function == "hosts.soak"]
    assert [len(one.arguments["instances"]) for one in soaks] == [2]


def test_what_somebody_else_started_leaves_the_balancer_and_is_removed_by_its_id_without_a_copy() -> None:
    stranger = Running("production-1", "", "sha256:4", "other:latest", "container abc of other", stranger="abc" * 20)
    plan = rollout(target(2), [stranger, *running(2)[1:]])
    each = ["pull", "room", "deregister", "drain", "stop", "run", "check", "register", "serving", "soak"]
    assert [one.key for one in plan.steps][:10] == [f"production-1/{key}" for key in each]
    stop = step(plan, "production-1/stop")
    assert (
        stop.title == "remove the container abcabcabcabc of other:latest, which somebody else started, without a copy"
    )
    assert stop.arguments["place"]["stranger"] == "abc" * 20
    assert "stranger" not in step(plan, "production-1/run").arguments["place"], "by then it has to be gone"
    assert plan.changes[0]["from"] == "sha256:4, container abc of other"
    assert back_of(plan, "production-1") == ["deregister", "drain", "clear", "register"]
    out = rollout(target(2), [replace(stranger, reference="container abc of other, not registered"), *running(2)[1:]])
    assert back_of(out, "production-1") == ["deregister", "drain", "clear"], "it was not registered before either"
    assert not any("stranger" in one.arguments.get("place", {}) for one in rollout(target(2)).steps)


def back_of(plan: Rollout, name: str) -> list[str]:
    return [one.key.split("/")[2] for one in plan.recovery if one.key.startswith(f"put-back/{name}/")]


def test_what_fails_goes_back_with_those_before_it_and_nobody_after_it() -> None:
    plan = rollout(target(3))
    back = [key.split("/")[1] for key in step(plan, "production-2/check").on_failure]
    assert list(dict.fromkeys(back)) == ["production-2", "production-1"]
    assert not any("production-2" in key for key in step(plan, "production-2/pull").on_failure)
    assert step(plan, "production-1/pull").on_failure == ()


def test_where_nothing_ran_going_back_leaves_nothing() -> None:
    plan = rollout(target(1), [Running("production-1", "", "")])
    assert [one.key for one in plan.recovery] == [
        "put-back/production-1/deregister", "put-back/production-1/drain", "put-back/production-1/clear",
    ]  # fmt: skip
    assert step(plan, "put-back/production-1/clear").arguments["hold"] is True
    assert "production-1/room" not in [one.key for one in plan.steps]


def test_a_host_is_safe_to_stop_before() -> None:
    plan = rollout(target(2))
    assert [one.key for one in plan.steps if one.safe_point] == [
        "production-1/pull", "production-1/room", "production-2/pull", "production-2/room",
    ]  # fmt: skip


def stay(plan: Rollout, key: str) -> list[str]:
    return [one["place"]["instance"] for one in step(plan, key).arguments["stay"]]


def test_before_each_leaves_and_before_each_goes_back_the_others_have_to_serve() -> None:
    plan = rollout(target(3))
    assert (
        stay(plan, "production-2/room") == stay(plan, "put-back/production-2/room") == ["production-1", "production-3"]
    )
    back = step(plan, "production-2/room").on_failure
    assert back[0] == "put-back/production-1/room", "it is well, so it goes back once the others serve"
    assert step(plan, back[0]).arguments["only_new"] is True
    firsts = {key.split("/")[1]: key for key in reversed(step(plan, "verify").on_failure)}
    assert list(firsts.values()) == [f"put-back/production-{number}/room" for number in (1, 2, 3)]


def test_what_has_ended_is_away_and_is_renewed_before_those_that_serve() -> None:
    ended, held = Running("production-4", "", "", "", "it has ended"), Running("production-4", "", "")
    plan = rollout(target(4), [*running(3), ended])
    assert plan.steps[0].group == "production-4"
    assert "production-4/room" not in [one.key for one in plan.steps], "nobody misses it"
    assert stay(plan, "production-1/room") == ["production-2", "production-3", "production-4"]
    assert {row["what"]: row["from"] for row in plan.changes}["production-4"] == "nothing, it has ended"
    canary = target(4, canary="production-1")
    assert "production-4" in stay(rollout(canary, [*running(3), ended]), "production-1/room")
    first = rollout(canary, [*running(3), held])
    assert "production-4" not in stay(first, "production-1/room"), "it was stopped on purpose"
    assert "production-4" in stay(first, "production-2/room"), "it was started meanwhile"
    assert "production-4" not in stay(first, "put-back/production-1/room")


def test_of_a_batch_only_those_that_run_leave() -> None:
    runs = [*running(3), Running("production-4", "", "", "", "it has ended")]
    plan = rollout(target(4, batch_size=2, max_unavailable=2), runs)
    room = next(one for one in plan.steps if one.function == "hosts.room")
    assert room.group == "production-4, production-1"
    assert [one["place"]["instance"] for one in room.arguments["leave"]] == ["production-1"]
    assert stay(plan, room.key) == ["production-2", "production-3", "production-4"]


def test_those_beside_a_narrowed_target_have_to_serve_too() -> None:
    whole = target(3)
    plan = rollout(replace(whole, instances=whole.instances[:1], beside=whole.instances[1:]))
    assert {one.group for one in plan.steps} == {"production-1", ""}
    assert (
        stay(plan, "production-1/room") == stay(plan, "put-back/production-1/room") == ["production-2", "production-3"]
    )
    assert len(step(plan, "verify").arguments["instances"]) == 1


def test_what_is_as_it_should_be_is_left_alone_and_what_is_not_is_renewed() -> None:
    there, runs = target(2), running(2)
    runs = [replace(runs[0], digest=TO.digest), replace(runs[1], digest=TO.digest, reference="not registered")]
    plan = rollout(there, runs)
    assert {one.group for one in plan.steps} == {"production-2", ""}
    assert [row["to"] for row in plan.changes] == ["already on it", f"1.5.0 {TO.digest}"]
    assert plan.changes[1]["from"].endswith("not registered")


def test_without_a_balancer_nobody_is_asked_of_one() -> None:
    functions = {one.function for one in rollout(target(2, balancer={"kind": "none"})).steps}
    assert not functions & {"hosts.deregister", "hosts.drain", "hosts.register", "hosts.serving"}


def test_the_same_gives_the_same_and_each_setting_that_counts_changes_the_digest() -> None:
    def digest(there: Target) -> str:
        plan = rollout(there)
        return Plan("same", plan.steps, plan.recovery, plan.changes).digest

    assert digest(target()) == digest(target())
    changed: list[dict[str, Any]] = [
        {"soak_seconds": 1},
        {"container": {"memory_mb": 512}},
        {"configuration": "abd"},
        {"canary": "production-2"},
        {"balancer": {**HAPROXY, "backend": "other"}},
        {"drain_seconds": 7},
    ]
    assert len({digest(target(**settings)) for settings in changed}) == len(changed)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (target(2, hosts={}), "hosts is missing; name a host and its engine"),
        (target(2, hosts={"a": {"engine": "unix:///s", "instances": ["production-1"]}}), "No host of production runs"),
        (target(1, batch_size=3), r"batch_size is 3, and no more than max_unavailable \(1\) may be away at once"),
    ],
)
def test_what_cannot_be_planned_is_said_in_words(there: Target, words: str) -> None:
    with pytest.raises(StepError, match=words):
        rollout(there)


def test_a_release_without_a_digest_is_refused() -> None:
    with pytest.raises(StepError, match="has no image digest"):
        DRIVER.rollout(target(1), running(1), replace(TO, digest=""))


def test_what_runs_at_a_former_address_leaves_there_and_comes_back_there() -> None:
    there, runs = target(2), running(2)
    runs[0] = replace(runs[0], reference="with other settings", address="http://10.0.0.1:7000")
    plan = rollout(there, runs)

    def port(key: str) -> int:
        return int(step(plan, key).arguments["balancer"]["member"]["port"])

    assert (port("production-1/deregister"), port("production-1/drain")) == (7000, 7000)
    assert (port("production-1/register"), port("production-1/serving")) == (8000, 8000)
    assert (port("put-back/production-1/deregister"), port("put-back/production-1/register")) == (8000, 7000)
    assert step(plan, "put-back/production-1/return").arguments["recipe"]["published"] == 7000
    assert step(plan, "put-back/production-1/check").arguments["place"]["address"] == "http://10.0.0.1:7000"
    assert _addresses(step(plan, "production-1/room"), "leave") == ["http://10.0.0.1:7000"]
    assert _addresses(step(plan, "production-2/room"), "stay") == ["http://10.0.0.1:8000"], "it was renewed by then"
    assert _addresses(step(plan, "put-back/production-1/room"), "stay") == ["http://10.0.0.2:8000"]


def _addresses(room: StepSpec, who: str) -> list[str]:
    return [one["place"]["address"] for one in room.arguments[who]]
