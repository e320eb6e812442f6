"""Between two looks the driver watches: bookmarks, changes, streams that end, versions and pages that are too old."""

import pytest

from controlplane.operations.errors import LeaseLost, StepError
from environments.drivers.kubernetes.api import Api, Changed, Gone
from environments.drivers.kubernetes.settings import place_of
from environments.drivers.kubernetes.watch import pause
from tests.environments.kubernetes.cluster import CRASHES
from tests.environments.kubernetes.fields import Object
from tests.environments.kubernetes.server import Asked, Fault
from tests.environments.kubernetes.town import NAME, Town, digest_of_release, do_until

LONG = 20.0  # nobody waits that long: the stand-in ends its streams at once


@pytest.fixture
def deployed(town: Town) -> Town:
    """1.4.0, and nothing moves."""
    town.deploy("1.4.0")
    town.cluster.settle()
    return town


def api_of(town: Town) -> Api:
    return Api.at(place_of(town.target))


def watches(town: Town) -> list[Asked]:
    return [one for one in town.api.asked if one.method == "WATCH"]


def version_of(found: Object) -> str:
    return str(found["metadata"]["resourceVersion"])


def touched(town: Town, label: str) -> None:
    town.cluster.update("Deployment", NAME, {"metadata": {"labels": {"touched": label}}}, "kubectl-label")


def test_a_bookmark_is_no_change_and_is_where_to_go_on_from(deployed: Town) -> None:
    deployed.cluster.version += 7  # of other objects
    with api_of(deployed) as api:
        changed, version = api.news("Deployment", NAME, version_of(deployed.deployment), LONG)
    assert (changed, version) == (False, str(deployed.cluster.version))
    assert watches(deployed)[-1].params["allowWatchBookmarks"] == "true"


def test_a_change_ends_the_watch_with_its_version(deployed: Town) -> None:
    before = version_of(deployed.deployment)
    touched(deployed, "once")
    with api_of(deployed) as api:
        assert api.news("Deployment", NAME, before, LONG) == (True, version_of(deployed.deployment))


def test_only_the_object_is_watched(deployed: Town) -> None:
    before = version_of(deployed.deployment)
    deployed.cluster.create("Deployment", {**deployed.deployment, "metadata": {"name": "another"}}, "kubectl")
    with api_of(deployed) as api:
        assert api.news("Deployment", NAME, before, LONG)[0] is False
    assert watches(deployed)[-1].params["fieldSelector"] == f"metadata.name={NAME}"


def test_a_stream_that_ends_is_taken_up_from_its_bookmark(deployed: Town) -> None:
    worker, begun = deployed.worker(), str(deployed.cluster.version)
    deployed.deployment["metadata"]["resourceVersion"] = begun
    deployed.cluster.version += 7
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            touched(deployed, "by now")

    worker.wait = wait  # type: ignore[method-assign]
    with api_of(deployed) as api:
        pause(worker, api, deployed.cluster.shown(deployed.deployment), LONG)
    began = int(begun)
    assert [int(one.params["resourceVersion"]) for one in watches(deployed)[-3:]] == [began, began + 7, began + 7]
    assert waits == [LONG / 5] * 2  # a server that ends its streams at once is not asked without a pause


@pytest.mark.parametrize("in_stream", [True, False])
def test_a_version_that_is_too_old_is_read_anew(deployed: Town, in_stream: bool) -> None:
    deployed.api.faults.append(Fault("WATCH", "Deployment", 410, in_stream=in_stream, times=2))
    with api_of(deployed) as api, pytest.raises(Gone):
        api.news("Deployment", NAME, "1", LONG)
    worker = deployed.worker()
    waits: list[float] = []
    worker.wait = waits.append  # type: ignore[method-assign,assignment]
    with api_of(deployed) as api:
        pause(worker, api, deployed.deployment, LONG)
    assert len(waits) == 1 and worker.said == []  # that is how it should be, and no word is lost about it


def test_the_cluster_forgets_old_versions(deployed: Town) -> None:
    deployed.cluster.oldest = deployed.cluster.version
    with api_of(deployed) as api, pytest.raises(Gone, match="too old"):
        api.news("Deployment", NAME, "1", LONG)


def test_a_refusal_in_the_stream_is_said(deployed: Town) -> None:
    deployed.api.faults.append(Fault("WATCH", "Deployment", 500, in_stream=True, message="etcd is away"))
    worker = deployed.worker()
    worker.wait = lambda seconds: None  # type: ignore[method-assign]
    with api_of(deployed) as api:
        pause(worker, api, deployed.deployment, LONG)
    assert any("etcd is away" in line for line in worker.said)


def test_pages_are_put_together_and_begun_anew_when_they_are_too_old(deployed: Town) -> None:
    deployed.cluster.page = 1
    with api_of(deployed) as api:
        assert len(api.listed("Pod", labelSelector=f"app={NAME}")) == 3
        deployed.api.faults.append(Fault("GET", "Pod", 410, needs="continue"))
        found = api.listed("Pod", labelSelector=f"app={NAME}")
        assert len({one["metadata"]["name"] for one in found}) == len(found) == 3
        deployed.api.faults.append(Fault("GET", "Pod", 410, needs="continue", times=9))
        with pytest.raises(Gone):
            api.listed("Pod", labelSelector=f"app={NAME}")


# --- 409 and 429 --------------------------------------------------------------------------------------


def test_who_makes_it_second_is_told_and_changes_nothing(town: Town) -> None:
    """Both looked, and there was none; only one POST is taken."""
    rollout, late, first = town.rollout("1.4.0"), town.worker(), town.worker()
    step = do_until(late, rollout, "deployment")
    do_until(first, rollout, "deployment")

    def check() -> None:
        late.check = lambda: None  # type: ignore[method-assign]
        first.do(step)

    late.check = check  # type: ignore[method-assign]
    with pytest.raises(Changed, match="already exists") as found:
        late.do(step)
    assert not found.value.permanent
    with pytest.raises(LeaseLost):
        late.do(step)
    assert town.deployment["metadata"]["annotations"]["controlplane/operation"] == str(first.operation_id)


def test_what_was_changed_since_it_was_looked_at_is_not_deleted(town: Town) -> None:
    town.cluster.behaviours[digest_of_release("1.6.0")] = CRASHES
    rollout, worker = town.rollout("1.6.0"), town.worker()
    for step in rollout.steps[:-1]:
        worker.do(step)
    waits: list[int] = []

    def check() -> None:
        waits.append(1)
        touched(town, str(len(waits)))

    worker.check = check  # type: ignore[method-assign]
    with pytest.raises(Changed, match="changed by somebody else"):
        worker.do(rollout.recovery[0])
    assert waits and town.running().version == "1.6.0"


@pytest.mark.parametrize(("status", "times", "after"), [(429, 1, ""), (503, 1, ""), (429, 3, "1"), (503, 3, "1")])
def test_haste_that_does_not_end_is_no_verdict(town: Town, status: int, times: int, after: str) -> None:
    town.api.faults.append(Fault("GET", "Deployment", status, times=times, retry_after=after))
    waits: list[float] = []
    with Api.at(place_of(town.target), waits.append) as api:
        with pytest.raises(StepError, match="told to fail") as found:
            api.find("Deployment", NAME)
        assert not found.value.permanent
        assert waits == [1.0] * (times - 1)
        assert api.find("Deployment", NAME) is None


def test_nobody_waits_longer_than_ten_seconds_because_a_server_says_so(town: Town) -> None:
    town.api.faults.append(Fault("GET", "Deployment", 429, retry_after="86400"))
    waits: list[float] = []
    with Api.at(place_of(town.target), waits.append) as api:
        api.find("Deployment", NAME)
    assert waits == [10.0]
