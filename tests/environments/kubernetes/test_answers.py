"""What the API server answers: lost answers, refusals, haste, old versions; and a worker that dies at any request."""

from base64 import b64encode
from typing import Any

import pytest

from controlplane.operations.errors import StepError
from controlplane.operations.masking import MASK
from controlplane.operations.plans import StepSpec
from controlplane.operations.registry import step_function
from environments.drivers.kubernetes.api import Api
from tests.environments.kubernetes.cluster import CRASHES
from tests.environments.kubernetes.server import TOKEN, Fault
from tests.environments.kubernetes.town import NAME, Hand, Town, digest_of_release, do_until


class Died(BaseException):
    """The worker, at this very instruction."""


class Mortal(Hand):
    """A worker that dies at the nth thing it says or asks the engine."""

    lives = 0

    def _live(self) -> None:
        self.lives -= 1
        if self.lives == 0:
            raise Died

    def check(self) -> None:
        self._live()
        super().check()

    def save_checkpoint(self, **values: Any) -> None:
        self._live()
        super().save_checkpoint(**values)

    def did(self, what: str, subject: str, **facts: Any) -> None:
        self._live()
        super().did(what, subject, **facts)

    def log(self, text: str, *, level: str = "line") -> None:
        self._live()
        super().log(text, level=level)


def _again(worker: Hand, step: StepSpec) -> None:
    """As the engine does after a failure that may pass."""
    for _ in range(step.retry.attempts - 1):
        try:
            worker.do(step)
        except StepError as error:
            if error.permanent:
                raise
        else:
            return
    worker.do(step)


@pytest.mark.parametrize("kind", ["Service", "Secret", "Deployment"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_an_answer_that_was_lost_after_the_change_does_it_once(town: Town, method: str, kind: str) -> None:
    town.api.faults.append(Fault(method, kind, 0))
    worker = town.worker()
    for step in town.rollout("1.4.0").steps:
        worker.checkpoint = {}
        _again(worker, step)
    assert [one for one in town.api.changes() if one[:2] == ("POST", kind)] == [("POST", kind, worker_name(town, kind))]
    assert len([one for one in worker.effects if one[0] == "started"]) == 1
    assert town.deployment["metadata"]["generation"] == 1


def worker_name(town: Town, kind: str) -> str:
    return f"{NAME}-{town.target.settings['configuration']}" if kind == "Secret" else NAME


def _dying(town: Town, lives: int) -> bool:
    """One deployment whose worker dies there, and another goes on. False: nobody died."""
    version = f"2.{10 + lives}.0"
    rollout = town.rollout(version)
    town.fence += 1
    first = Mortal(fence=town.fence, operation_id=town.fence)
    first.lives = lives
    died = False
    for step in rollout.steps:
        first.checkpoint = {}
        try:
            first.do(step)
        except Died:
            died = True
            heir = Hand(fence=first.fence, operation_id=first.operation_id, checkpoint=first.checkpoint)
            heir.effects = first.effects
            heir.do(step)
            first.lives = 0
    # Dying between telling an effect and noting that it was told tells it twice; it is the same one.
    started = [one for one in first.effects if one[0] == "started"]
    assert started and all(one == started[0] for one in started)
    assert len(town.cluster.of("ReplicaSet")) == lives
    assert town.running().version == version
    return died


def test_a_crash_at_every_boundary_deploys_once(town: Town) -> None:
    town.settings(replicas=1)
    for lives in range(1, 80):
        if not _dying(town, lives):
            assert lives > 10
            return
    pytest.fail("it never got through")


def test_a_crash_at_every_boundary_of_going_back(town: Town) -> None:
    town.settings(replicas=1)
    town.deploy("1.4.0")
    before = town.deployment["spec"]["template"]
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    for lives in range(1, 30):
        rollout = town.rollout("1.6.0")
        town.fence += 1
        worker = Hand(fence=town.fence, operation_id=town.fence)
        worker.do(do_until(worker, rollout, "deployment"))
        mortal = Mortal(fence=town.fence, operation_id=town.fence)
        mortal.lives = lives
        died = False
        for step in rollout.recovery:
            mortal.checkpoint = {}
            try:
                mortal.do(step)
            except Died:
                died, mortal.lives = True, 0
                Hand(fence=town.fence, operation_id=town.fence, checkpoint=mortal.checkpoint).do(step)
        assert town.deployment["spec"]["template"] == before
        if not died:
            return
    pytest.fail("it never got through")


def test_429_is_asked_again_after_the_time_it_names(town: Town) -> None:
    worker = town.worker()
    waited: list[float] = []
    worker.wait = waited.append  # type: ignore[method-assign,assignment]
    town.api.faults.append(Fault("PATCH", "Deployment", 429, times=2, retry_after="7"))
    assert town.deploy("1.4.0", worker) is None
    assert waited.count(7.0) == 2


def test_401_may_pass_and_says_so(town: Town) -> None:
    town.api.token = "another-token"
    with pytest.raises(StepError, match="does not accept our credentials") as found:
        town.running()
    assert not found.value.permanent


def test_403_is_permanent(town: Town) -> None:
    town.api.faults.append(Fault("POST", "Deployment", 403, message="deployments is forbidden"))
    error = town.deploy("1.4.0")
    assert error is not None and error.permanent and "does not allow it for Deployment" in str(error)


def test_what_is_said_of_a_secret_is_not_quoted(town: Town) -> None:
    town.api.faults.append(Fault("POST", "Secret", 422, message="invalid: hunter2-sentinel"))
    error = town.deploy("1.4.0")
    assert error is not None and "hunter2" not in str(error)


QUOTED = [f"no upstream for Authorization: Bearer {TOKEN}", f"no: {b64encode(TOKEN.encode()).decode()}"]


@pytest.mark.parametrize("status", [403, 409, 422, 500, 502])
@pytest.mark.parametrize("quoted", QUOTED)
def test_who_quotes_our_token_is_not_quoted(town: Town, status: int, quoted: str) -> None:
    town.api.faults.append(Fault("GET", "Deployment", status, message=quoted))
    with pytest.raises(StepError, match=MASK) as told:
        town.running()
    assert TOKEN not in str(told.value) and quoted not in str(told.value)


@pytest.mark.parametrize("in_stream", [True, False])
def test_nor_who_quotes_it_in_a_watch(town: Town, in_stream: bool) -> None:
    town.api.faults.append(Fault("WATCH", "Deployment", 500, message=QUOTED[0], in_stream=in_stream))
    settings = town.placement.environment.driver_settings
    access = {"way": "token", "server": settings["server"], "token": settings["token"]}
    place = {"access": access, "answer_seconds": 5.0, "namespace": "production"}
    with Api.at(place) as api, pytest.raises(StepError, match=MASK) as told:
        api.news("Deployment", "nobody", "1", 1.0)
    assert TOKEN not in str(told.value)


@pytest.mark.parametrize("status", [410, 500, 403])
def test_a_watch_that_cannot_be_had_only_costs_time(town: Town, status: int) -> None:
    town.cluster.slow = 3
    town.api.faults.append(Fault("WATCH", "Deployment", status, times=3))
    assert town.deploy("1.4.0") is None
    assert any(one.method == "WATCH" for one in town.api.asked)


def test_a_look_that_fails_for_a_passing_reason_is_no_verdict(town: Town) -> None:
    town.deploy("1.4.0")
    rollout, worker = town.rollout("1.5.0"), town.worker()
    *before, rolled = rollout.steps
    for step in before:
        worker.do(step)
    town.api.faults.append(Fault("GET", "Pod", 500, times=2))
    verify = step_function(rolled.function).verify
    assert verify is not None and verify(worker, **rolled.arguments).outcome == "pending"
    worker.do(rolled)


def test_nobody_is_there(town: Town) -> None:
    town.settings(server="http://127.0.0.1:9")
    with pytest.raises(StepError, match="does not answer"):
        town.running()
