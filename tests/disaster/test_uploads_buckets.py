"""Uploads of two buckets: what is missing comes over, whatever goes wrong on the way, and nothing newer is lost."""

from collections.abc import Callable
from typing import Any

import pytest

from backups.disaster.region_mends import request_mend
from backups.disaster.services import request_failback, request_failover
from backups.disaster.uploads import copying, walking
from backups.disaster.uploads.s3 import S3Uploads
from backups.models import UploadsComparison
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.context import Context
from controlplane.operations.errors import LeaseLost
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State
from tests.backups.wire import BROKEN, DENIED, LOST_AFTER, SLOW_DOWN, Fault
from tests.disaster.paper import plan, world
from tests.disaster.two_buckets import PRIMARY, STANDBY, Buckets, buckets, lines

pytest_plugins = ["tests.backups.stores"]
__all__ = ["buckets", "plan"]
pytestmark = pytest.mark.django_db(transaction=True)
Mend = Callable[[], Operation]


def run(operation: Operation, worker: str = "w1") -> Operation:
    engine.run(operation.pk, worker)
    operation.refresh_from_db()
    return operation


@pytest.fixture
def mend(buckets: Buckets, alice: Person) -> Mend:
    """Alice asks, a worker does it."""
    return lambda: run(request_mend(Actor(alice), buckets.plan, reason="after the outage"))


@pytest.fixture(params=["by the server", "through us"])
def way(request: pytest.FixtureRequest, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the server, or, where both sides have other credentials, through this worker."""
    if request.param == "through us":
        monkeypatch.setenv("OTHER_KEY", "AKIAOTHEROTHEROTHER1")
        buckets.change(standby={"access_key": "env:OTHER_KEY"})
    return str(request.param)


def test_what_is_missing_and_what_is_older_comes_over(buckets: Buckets, mend: Mend, way: str) -> None:
    buckets.put("old", b"before", there=True)
    buckets.age("old", 60, there=True)
    for key, data in {"a": b"1", "b/c": b"22", "b/\N{SNOWMAN} +%.png": b"333", "old": b"after"}.items():
        buckets.put(key, data)
    buckets.put("only-there", b"kept", there=True)
    operation = mend()
    assert operation.state == State.SUCCEEDED, lines(operation)
    expected = {**buckets.content(there=False), "only-there": b"kept"}
    assert buckets.content() == expected
    assert "3 were missing, 1 different; 4 brought over" in lines(operation)
    row = UploadsComparison.objects.get()
    assert (row.whole, row.source, row.totals["copied"], row.operation) == (True, PRIMARY, 4, operation.pk)


def test_a_second_time_there_is_nothing_to_do(buckets: Buckets, mend: Mend, way: str) -> None:
    buckets.put("a", b"1")
    mend()
    puts = buckets.ours.proxy.asked["PutObject"]
    assert mend().state == State.SUCCEEDED
    assert buckets.ours.proxy.asked["PutObject"] == puts


def test_what_is_newer_there_stays(buckets: Buckets, mend: Mend) -> None:
    buckets.put("a", b"of production")
    buckets.put("a", b"made at DR meanwhile", there=True)
    operation = mend()
    assert operation.state == State.SUCCEEDED
    assert buckets.content()["a"] == b"made at DR meanwhile"
    assert "1 are newer in dr and stay as they are" in lines(operation)


def test_what_came_between_the_look_and_the_copy_stays(buckets: Buckets, mend: Mend, way: str) -> None:
    buckets.put("a", b"of production")
    meanwhile = Fault(passes=True, before=lambda: buckets.put("a", b"meanwhile", there=True))
    buckets.ours.proxy.will("HeadObject", meanwhile)
    mend()
    assert buckets.content()["a"] == b"meanwhile"


def test_it_is_what_it_was_there(buckets: Buckets, mend: Mend, way: str) -> None:
    buckets.put("a.png", b"1", ContentType="image/png", Metadata={"owner": "7"}, CacheControl="max-age=60")
    mend()
    found = buckets.client.head_object(Bucket=buckets.theirs, Key="a.png")
    assert (found["ContentType"], found["Metadata"], found["CacheControl"]) == (
        "image/png",
        {"owner": "7"},
        "max-age=60",
    )


def test_prefixes_are_of_each_side(buckets: Buckets, mend: Mend) -> None:
    buckets.change(primary={"prefix": "up"}, standby={"prefix": "copy/of/up"})
    buckets.put("up/a", b"1")
    buckets.put("else", b"2")
    mend()
    assert buckets.content() == {"copy/of/up/a": b"1"}


def test_a_large_one_goes_in_parts(buckets: Buckets, mend: Mend, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 5 GB on AWS; the limit is lower here."""
    for name in ("COPY_BYTES", "COPY_PART", "SEND_BYTES", "SEND_PART"):
        monkeypatch.setattr(copying, name, 5 * 1024 * 1024)
    data = bytes(range(256)) * 50_000
    buckets.put("film", data, ContentType="video/mp4")
    operation = mend()
    assert operation.state == State.SUCCEEDED, lines(operation)
    assert buckets.content()["film"] == data
    assert buckets.ours.proxy.asked["UploadPart"] == 3
    assert buckets.client.head_object(Bucket=buckets.theirs, Key="film")["ContentType"] == "video/mp4"
    assert mend().state == State.SUCCEEDED
    assert buckets.ours.proxy.asked["UploadPart"] == 3, "another kind of ETag is not another content"


@pytest.mark.parametrize("fault", [BROKEN, SLOW_DOWN, LOST_AFTER], ids=["broken", "throttled", "answer lost"])
@pytest.mark.parametrize("action", ["PutObject", "UploadPart", "CompleteMultipartUpload", "ListObjects"])
def test_a_network_that_fails_once(
    buckets: Buckets, mend: Mend, monkeypatch: pytest.MonkeyPatch, fault: Fault, action: str
) -> None:
    for name in ("COPY_BYTES", "COPY_PART"):
        monkeypatch.setattr(copying, name, 5 * 1024 * 1024)
    buckets.put("a", b"1")
    buckets.put("film", b"f" * 6_000_000)
    buckets.ours.proxy.will(action, fault)
    operation = mend()
    assert operation.state == State.SUCCEEDED, lines(operation)
    assert buckets.content() == buckets.content(there=False)
    assert not buckets.client.list_multipart_uploads(Bucket=buckets.theirs).get("Uploads")


def test_one_that_is_refused_is_named_and_the_others_come(buckets: Buckets, mend: Mend) -> None:
    for key in "abc":
        buckets.put(key, b"1")
    buckets.ours.proxy.will("PutObject", DENIED)
    operation = mend()
    assert operation.state == State.FAILED, "what was asked for is not all there"
    assert "1 could not be brought over; what was, stays" in operation.outcome
    assert len(buckets.content()) == 2
    assert "s3:PutObject" in lines(operation)


@pytest.fixture
def told_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each object."""
    monkeypatch.setattr(walking, "TELL_SECONDS", 0.0)


@pytest.mark.usefixtures("told_often")
def test_a_worker_that_is_killed_is_followed_by_one_that_goes_on(
    buckets: Buckets, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02}" for number in range(40)]
    for name in names:
        buckets.put(name, name.encode())
    operation = request_mend(Actor(alice), buckets.plan, reason="x")
    copied: list[str] = []
    real = copying.BucketCopier.copy

    def copy(self: Any, here: Any, *more: Any) -> bool:
        if here.name == "25" and "25" not in copied:
            copied.append("25")
            raise LeaseLost("killed")
        copied.append(here.name)
        return real(self, here, *more)

    monkeypatch.setattr(copying.BucketCopier, "copy", copy)
    run(operation)
    assert operation.state == State.RUNNING
    assert operation.steps.get().checkpoint["after"] >= "00"
    Operation.objects.filter(pk=operation.pk).update(lease_until="2020-01-01T00:00:00Z")
    assert run(operation, "w2").state == State.SUCCEEDED
    assert sorted(buckets.content()) == names
    assert copied.count("00") == 1, "what was behind the checkpoint is not copied again"
    assert UploadsComparison.objects.get().totals["source_count"] == 40


def test_parts_that_a_killed_worker_left_go_and_those_of_others_stay(buckets: Buckets, alice: Person) -> None:
    buckets.put("film", b"1")
    at = {"Bucket": buckets.theirs, "Key": "film"}
    left, others = (buckets.client.create_multipart_upload(**at)["UploadId"] for _ in range(2))
    operation = request_mend(Actor(alice), buckets.plan, reason="x")
    operation.steps.update(checkpoint={"uploads": [["film", left]]})
    assert run(operation).state == State.SUCCEEDED
    found = buckets.client.list_multipart_uploads(Bucket=buckets.theirs)["Uploads"]
    assert [one["UploadId"] for one in found] == [others]


def test_what_is_under_way_is_in_the_checkpoint(buckets: Buckets, mend: Mend, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COPY_BYTES", "COPY_PART"):
        monkeypatch.setattr(copying, name, 5 * 1024 * 1024)
    buckets.put("film", b"f" * 6_000_000)
    seen: list[list[str]] = []
    real = copying.BucketCopier._all_parts

    def parts(self: Any, *arguments: Any) -> Any:
        kept = Step.objects.get().checkpoint["uploads"]
        seen.append([name for name, _ in kept])
        return real(self, *arguments)

    monkeypatch.setattr(copying.BucketCopier, "_all_parts", parts)
    operation = mend()
    assert seen == [["film"]], "before the first part is sent"
    assert operation.steps.get().checkpoint["uploads"] == [], "none is left in the end"


@pytest.mark.usefixtures("told_often")
def test_somebody_may_stop_it(buckets: Buckets, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        buckets.put(f"{number:02}", b"1")
    operation = request_mend(Actor(alice), buckets.plan, reason="x")
    real = Context.save_checkpoint

    def save(self: Any, **values: Any) -> None:
        """The lease hears of it with its next renewal; here at once."""
        real(self, **values)
        if values.get("after") == "05":
            transitions.cancel(operation.pk, Actor(alice), reason="wrong day")
            self._lease.renew()

    monkeypatch.setattr(Context, "save_checkpoint", save)
    assert run(operation).state == State.CANCELLED
    assert 0 < len(buckets.content()) < 60


# --- in a failover --------------------------------------------------------------------------------------


@pytest.fixture
def failover(buckets: Buckets, alice: Person, bob: Person, ada: Person) -> Callable[..., Operation]:
    """From production to DR; or home."""

    def go(*, home: bool = False) -> Operation:
        said: dict[str, Any] = {"words": "all red", "reason": "region down"}
        buckets.plan.refresh_from_db()
        operation = (
            request_failback(Actor(alice), buckets.plan, **said)
            if home
            else request_failover(Actor(alice), buckets.plan, point="replica", **said)
        )
        for person in (bob, ada):
            transitions.approve(operation.pk, Actor(person), operation.plan_digest)
        return run(operation)

    return go


def test_a_failover_brings_them_over_and_the_way_home_too(buckets: Buckets, failover: Any) -> None:
    buckets.put("a", b"1")
    assert failover().state == State.SUCCEEDED
    assert buckets.content() == {"a": b"1"}
    buckets.age("a", 60)
    buckets.put("made-at-dr", b"2", there=True)
    buckets.put("a", b"changed at DR", there=True)
    home = failover(home=True)
    assert home.state == State.SUCCEEDED, lines(home)
    assert buckets.content(there=False) == {"a": b"changed at DR", "made-at-dr": b"2"}


def test_what_comes_before_the_fence_is_proven_is_brought_by_the_second_pass(
    buckets: Buckets, failover: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets.put("a", b"1")

    def notice(what: str) -> None:
        if what.startswith("proven"):
            buckets.put("z", b"2")

    monkeypatch.setattr(world, "order", _Noticing(notice))
    assert failover().state == State.SUCCEEDED
    assert sorted(buckets.content()) == ["a", "z"]


class _Noticing(list[str]):
    def __init__(self, notice: Callable[[str], object]) -> None:
        super().__init__()
        self._notice = notice

    def append(self, what: str) -> None:
        super().append(what)
        self._notice(what)


def test_a_source_that_is_gone_is_said_and_stops_nobody(buckets: Buckets, failover: Any) -> None:
    buckets.put("there", b"1", there=True)
    buckets.client.delete_bucket(Bucket=buckets.ours.name)
    operation = failover()
    assert operation.state == State.SUCCEEDED, lines(operation)
    assert "production cannot be read" in lines(operation)
    assert "dr goes on with what it has" in lines(operation)
    assert not UploadsComparison.objects.filter(whole=True).exists(), "nobody compared anything to the end"


def test_a_target_that_takes_nothing_asks_a_person(buckets: Buckets, failover: Any) -> None:
    buckets.put("a", b"1")
    buckets.client.delete_bucket(Bucket=buckets.theirs)
    operation = failover()
    assert operation.state == State.NEEDS_OPERATOR
    assert operation.steps.get(key="uploads/mend").state == "unknown"


def test_the_steps_say_all_they_need_and_name_no_secret(buckets: Buckets) -> None:
    part = S3Uploads().mend(*buckets.sides)
    assert [step.key for step in (*part.begin, *part.wait)] == ["uploads/mend", "uploads/mend-rest"]
    for step in (*part.begin, *part.wait):
        assert step.function in S3Uploads().steps
        assert step.arguments["target"]["settings"]["bucket"] == buckets.theirs
        assert step.arguments["source"]["environment"] == PRIMARY
        assert step.arguments["target"]["environment"] == STANDBY
        assert step.arguments["source"]["settings"]["secret_key"].startswith("env:")
