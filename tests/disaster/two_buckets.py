"""Two buckets on an AWS simulator, production's and DR's, and a plan that has them; faults by the proxy in front."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import FakeKey, s3_backends

from backups.disaster.base import Side
from backups.disaster.sides import sides
from backups.models import RecoveryPlan
from controlplane.operations.models import Operation
from tests.backups.wire import OwnBucket, Proxy
from tests.disaster.paper import PRIMARY, STANDBY

pytest_plugins = ["tests.backups.stores"]


@dataclass
class Buckets:
    """Production's and DR's. The client goes past the proxy."""

    plan: RecoveryPlan
    ours: OwnBucket
    theirs: str

    @property
    def client(self) -> Any:
        """To put things there as the application would."""
        return self.ours.client

    @property
    def sides(self) -> tuple[Side, Side]:
        """As the plan gives them to its parts."""
        return sides(self.plan, self.plan.uploads, self.plan.serving)

    def put(self, key: str, data: bytes, *, there: bool = False, **more: Any) -> None:
        """An object of production, or there: of DR."""
        self.client.put_object(Bucket=self.theirs if there else self.ours.name, Key=key, Body=data, **more)

    def age(self, key: str, seconds: float, *, there: bool = False) -> None:
        """As if it had been put there so long ago."""
        bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[self.theirs if there else self.ours.name]
        bucket.keys[key].last_modified -= timedelta(seconds=seconds)

    def say(self, key: str, status: str, *, there: bool = False) -> None:
        """What S3 says of its replication from now on: PENDING, COMPLETED, FAILED or REPLICA."""
        bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[self.theirs if there else self.ours.name]
        bucket.keys[key].said_of_replication = status

    def content(self, *, there: bool = True) -> dict[str, bytes]:
        """All of DR's bucket, or of production's."""
        bucket = self.theirs if there else self.ours.name
        keys = [one["Key"] for one in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def settings(self, **more: Any) -> dict[str, Any]:
        """What the plan's `uploads` say."""
        given = {**self.ours.settings, "region": "us-east-1"}
        return {
            "kind": "s3", **given, **more,
            "primary": {"bucket": self.ours.name, **more.get("primary", {})},
            "standby": {"bucket": self.theirs, **more.get("standby", {})},
        }  # fmt: skip

    def change(self, **more: Any) -> None:
        """Other settings."""
        self.plan.uploads = self.settings(**more)
        self.plan.save()


@pytest.fixture
def buckets(
    plan: RecoveryPlan, locking: OwnBucket, moto_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Buckets]:
    """Both empty. The simulator replicates nothing, but says of objects what a test has it say."""
    real: Any = vars(FakeKey)["response_dict"].fget

    def said(key: Any) -> dict[str, Any]:
        status = getattr(key, "said_of_replication", "")
        return {**real(key), **({"x-amz-replication-status": status} if status else {})}

    monkeypatch.setattr(FakeKey, "response_dict", property(said))
    theirs = f"{locking.name}-dr"
    locking.client.create_bucket(Bucket=theirs)
    made = Buckets(plan, locking, theirs)
    made.change()
    yield made
    moto_proxy.reset()


def lines(operation: Operation) -> str:
    """All that was said."""
    return "\n".join(operation.events.order_by("seq").values_list("text", flat=True))


__all__ = ["PRIMARY", "STANDBY", "Buckets", "buckets", "lines"]
