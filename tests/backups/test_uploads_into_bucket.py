"""Uploads of a bucket go back into it: over what is in use, so with an approval; what is not in the backup stays."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client

from backups.engines.file_index import Indexed
from backups.engines.uploads import UploadsEngine
from backups.models import Backup, Kind, Policy, Restore, RestorePoint
from backups.restore_services import Wish, draft_restore, request_point_restore, request_restore
from backups.restoring_files import Restored, restore_files_to_bucket
from backups.sealing import Sealer, new_identity
from backups.services import request_restore_point
from backups.storage.s3 import S3Kind
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.operations import engine, transitions
from controlplane.operations.errors import LeaseLost, StepError
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from environments.models import Environment
from tests.backups.company import Make, back_up
from tests.backups.crashes import Crash, dying
from tests.backups.files import Manifest, Shelf
from tests.backups.test_uploads_restore import forged
from tests.backups.wire import BROKEN, DENIED, LOST_AFTER, Fault, OwnBucket

pytest_plugins = ["tests.backups.stores"]
pytestmark = pytest.mark.django_db(transaction=True)
IN_PLACE = Wish(Restore.Target.FOLDER)
Put = Callable[[str, bytes], None]


def source(bucket: OwnBucket) -> dict[str, object]:
    """The setting of a policy whose files are below up/."""
    return {**bucket.settings, "bucket": bucket.name, "prefix": "up"}


@pytest.fixture
def put(bucket: OwnBucket) -> Put:
    """Put an object there, as the application would."""
    return lambda key, data: bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data)


def there(bucket: OwnBucket) -> dict[str, bytes]:
    keys = bucket.keys()
    return {key: bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read() for key in keys}


def upload_ids(bucket: OwnBucket) -> list[str]:
    return [one["UploadId"] for one in bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])]


def carry_out(operation: Operation, worker: str = "w1") -> Operation:
    engine.run(operation.pk, worker)
    operation.refresh_from_db()
    return operation


class TestTheFiles:
    @pytest.fixture(params=["plain", "sealed"])
    def shelf(
        self,
        request: pytest.FixtureRequest,
        bucket: OwnBucket,
        put: Put,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Shelf:
        """A backup of four objects, one of them of several parts."""
        secret, recipient = new_identity()
        monkeypatch.setenv("AGE_KEY", secret)
        for key, data in {".hidden": b"h", "a.png": b"a", "b/c.png": b"c" * 9_000_000, "caf\xe9": b"x"}.items():
            put(f"up/{key}", data)
        sealer = Sealer(recipient, "env:AGE_KEY") if request.param == "sealed" else Sealer()
        made = Shelf(UploadsEngine(), "uploads", {"source": source(bucket)}, tmp_path / "storage", sealer)
        made.take()
        return made

    def restore(self, shelf: Shelf, bucket: OwnBucket, manifest: Manifest | None = None) -> Restored:
        opened = S3Kind().open(source(bucket)).bucket
        return restore_files_to_bucket(manifest or shelf.manifests[-1], shelf.store, shelf.sealer, opened, shelf.hand)

    def test_what_differs_comes_back_and_what_is_new_stays(self, shelf: Shelf, bucket: OwnBucket, put: Put) -> None:
        before = there(bucket)
        put("up/a.png", b"b")
        put("up/newer", b"n")
        put("elsewhere", b"e")
        bucket.client.delete_objects(
            Bucket=bucket.name, Delete={"Objects": [{"Key": "up/b/c.png"}, {"Key": "up/.hidden"}]}
        )
        done = self.restore(shelf, bucket)
        assert (done.written, done.same, done.removed) == (3, 1, 0)
        assert there(bucket) == {**before, "up/newer": b"n", "elsewhere": b"e"}
        done = self.restore(shelf, bucket)
        assert (done.written, done.same) == (0, 4)
        assert bucket.uploads() == []

    def test_damaged_content_does_not_appear(self, shelf: Shelf, bucket: OwnBucket, put: Put) -> None:
        put("up/b/c.png", b"newer")
        digest = hashlib.sha256(b"c" * 9_000_000).hexdigest()
        (path,) = (shelf.root / shelf.prefix / "files").rglob(f"{digest}*")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(StepError) as raised:
            self.restore(shelf, bucket)
        assert raised.value.permanent and there(bucket)["up/b/c.png"] == b"newer" and bucket.uploads() == []

    def test_who_lost_the_lease_writes_nothing(self, shelf: Shelf, bucket: OwnBucket, put: Put) -> None:
        put("up/a.png", b"b")
        shelf.hand.lost = LeaseLost("gone")
        with pytest.raises(LeaseLost):
            self.restore(shelf, bucket)
        assert there(bucket)["up/a.png"] == b"b"

    def test_what_the_application_writes_meanwhile_stays(self, shelf: Shelf, bucket: OwnBucket, put: Put) -> None:
        """Between our writing and our looking at it."""
        put("up/a.png", b"b")

        def overwrite() -> None:
            if bucket.proxy.asked["PutObject"]:
                put("up/a.png", b"of the application")

        bucket.proxy.will("HeadObject", *[Fault(before=overwrite, passes=True)] * 5)
        with pytest.raises(StepError, match=r"has 18 bytes .* but 1 were sent. Somebody else may have written it"):
            self.restore(shelf, bucket)
        assert there(bucket)["up/a.png"] == b"of the application"

    def test_an_upload_that_was_left_is_aborted_and_no_other(self, shelf: Shelf, bucket: OwnBucket, put: Put) -> None:
        put("up/b/c.png", b"newer")
        theirs = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="up/b/c.png")["UploadId"]
        bucket.proxy.will("UploadPart", BROKEN, BROKEN)
        bucket.proxy.will("AbortMultipartUpload", BROKEN)  # as if the worker had been killed
        with pytest.raises(StepError, match="s3:UploadPart"):
            self.restore(shelf, bucket)
        assert bucket.uploads() == ["up/b/c.png"] * 2
        bucket.proxy.reset()
        assert self.restore(shelf, bucket).written == 1
        assert upload_ids(bucket) == [theirs]

    def test_one_that_may_not_be_aborted_is_told(self, shelf: Shelf, bucket: OwnBucket, put: Put) -> None:
        put("up/b/c.png", b"newer")
        bucket.proxy.will("UploadPart", BROKEN, BROKEN)
        bucket.proxy.will("AbortMultipartUpload", BROKEN, DENIED)
        with pytest.raises(StepError, match="s3:UploadPart"):
            self.restore(shelf, bucket)
        (left,) = upload_ids(bucket)
        bucket.proxy.faults["UploadPart"].clear()
        assert self.restore(shelf, bucket).written == 1
        (told,) = [line for line in shelf.hand.lines if left in line]
        assert told.startswith(f"upload {left} of b/c.png, begun before, stays: S3 does not allow s3:Abort")

    def test_a_lost_answer_is_no_reason_to_abort_theirs(self, shelf: Shelf, bucket: OwnBucket, put: Put) -> None:
        put("up/b/c.png", b"newer")
        theirs = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="up/b/c.png")["UploadId"]
        bucket.proxy.will("CreateMultipartUpload", LOST_AFTER)
        with pytest.raises(StepError, match="No answer to s3:CreateMultipartUpload"):
            self.restore(shelf, bucket)
        assert theirs in upload_ids(bucket)

    @pytest.mark.parametrize("name", [b"../x", b"a/../../x", b"./a", b"a\0b", os.fsencode("caf\udce9"), b""])
    def test_a_name_that_leads_out_or_is_none_is_refused(self, tmp_path: Path, bucket: OwnBucket, name: bytes) -> None:
        """Somebody who can write into the storage can write an index; the prefix is the end of their reach."""
        shelf = Shelf(UploadsEngine(), "uploads", {}, tmp_path / "storage")
        manifest = forged(shelf, Indexed(name, 1, hashlib.sha256(b"x").hexdigest(), 0, 0o644, "", 1))
        with pytest.raises(StepError) as raised:
            self.restore(shelf, bucket, manifest)
        assert raised.value.permanent and there(bucket) == {}


class TestAskedFor:
    @pytest.fixture
    def uploads(self, bucket: OwnBucket, put: Put, make_policy: Make, alice: Person) -> Policy:
        """A policy of the bucket, with one backup of one picture, which is another by now."""
        put("up/avatar.png", b"picture")
        policy = make_policy("uploads", kind=Kind.UPLOADS, settings={"source": source(bucket)})
        assert back_up(alice, policy).state == State.SUCCEEDED
        put("up/avatar.png", b"another")
        return policy

    def ask(self, alice: Person, bob: Person) -> Operation:
        backup = Backup.objects.select_related("environment", "policy__environment", "policy__storage").get()
        operation = request_restore(Actor(alice), backup, IN_PLACE, reason="it is broken")
        return transitions.approve(operation.pk, Actor(bob), operation.plan_digest)

    def test_the_plan_names_the_bucket(self, uploads: Policy, bucket: OwnBucket) -> None:
        made = draft_restore(Backup.objects.select_related("environment", "policy").get(), IN_PLACE)
        where = f"the bucket {bucket.name}, below up/"
        assert where in made.title and made.plan.steps[0].title == f"write the files into {where}"
        assert made.plan.changes[0]["what"] == where and made.is_live and made.approvals_required == 1

    def test_the_page_says_where_to(self, uploads: Policy, bucket: OwnBucket, client: Client, alice: Person) -> None:
        client.force_login(alice)
        path = f"/backups/{Backup.objects.get().pk}/restore"
        assert f"Empty: over the files in the bucket {bucket.name}" in client.get(path).content.decode()
        said = client.get(f"{path}?target=folder").content.decode()
        assert f"write the files into the bucket {bucket.name}" in said and "Type production" in said

    def test_it_waits_for_an_approval(self, uploads: Policy, alice: Person, bucket: OwnBucket) -> None:
        backup = Backup.objects.select_related("environment", "policy__environment", "policy__storage").get()
        operation = request_restore(Actor(alice), backup, IN_PLACE, reason="it is broken")
        assert operation.state == State.AWAITING_APPROVAL and not engine.run(operation.pk, "w1")
        assert there(bucket)["up/avatar.png"] == b"another"

    def test_back_into_the_bucket(self, uploads: Policy, alice: Person, bob: Person, bucket: OwnBucket) -> None:
        operation = carry_out(self.ask(alice, bob))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert there(bucket) == {"up/avatar.png": b"picture"}
        assert operation.events.filter(text__contains=f"the files are in the bucket {bucket.name}").exists()

    @pytest.mark.parametrize("boundary", ["intent_written", "effect_done", "verified", "state_written"])
    def test_a_worker_that_dies_anywhere(
        self, uploads: Policy, alice: Person, bob: Person, bucket: OwnBucket, boundary: str
    ) -> None:
        operation = self.ask(alice, bob)
        with dying(boundary, "restore"), pytest.raises(Crash):
            carry_out(operation)
        Operation.objects.update(lease_until="2000-01-01T00:00:00Z")
        assert carry_out(operation, "w2").state == State.SUCCEEDED, operation.outcome
        assert there(bucket) == {"up/avatar.png": b"picture"} and bucket.uploads() == []

    def test_a_bucket_that_refuses(self, uploads: Policy, alice: Person, bob: Person, bucket: OwnBucket) -> None:
        bucket.proxy.will("PutObject", DENIED)
        operation = carry_out(self.ask(alice, bob))
        assert operation.state == State.FAILED
        assert "s3:PutObject" in operation.outcome and bucket.name in operation.outcome

    def test_another_bucket_by_the_start(self, uploads: Policy, alice: Person, bob: Person, bucket: OwnBucket) -> None:
        operation = self.ask(alice, bob)
        Policy.objects.update(settings={"source": {**source(bucket), "bucket": "another"}})
        assert carry_out(operation).state == State.STALE

    def test_into_a_folder_beside(self, uploads: Policy, alice: Person, tmp_path: Path, bucket: OwnBucket) -> None:
        backup = Backup.objects.select_related("environment", "policy__environment", "policy__storage").get()
        wish = Wish(Restore.Target.FOLDER, folder="then")
        operation = carry_out(request_restore(Actor(alice), backup, wish, reason="to look"))
        assert operation.state == State.SUCCEEDED, operation.outcome
        assert (tmp_path / "restored" / "production" / "then" / "avatar.png").read_bytes() == b"picture"
        assert there(bucket)["up/avatar.png"] == b"another"

    def test_a_folder_that_moved_into_a_bucket(
        self, bucket: OwnBucket, make_policy: Make, tmp_path: Path, alice: Person, bob: Person
    ) -> None:
        """The backup is of the folder; in use is the bucket by now."""
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "avatar.png").write_bytes(b"picture")
        policy = make_policy("uploads", kind=Kind.UPLOADS, settings={"source": {"folder": str(tmp_path / "source")}})
        back_up(alice, policy)
        Policy.objects.update(settings={"source": source(bucket)})
        assert carry_out(self.ask(alice, bob)).state == State.SUCCEEDED
        assert there(bucket) == {"up/avatar.png": b"picture"}

    def test_with_a_restore_point(  # noqa: PLR0917 (fixtures)
        self, uploads: Policy, production: Environment, alice: Person, bob: Person, bucket: OwnBucket, put: Put
    ) -> None:
        carry_out(request_restore_point(Actor(alice), production, name="before", reason="because"))
        put("up/avatar.png", b"a third one")
        point = RestorePoint.objects.get()
        operation = request_point_restore(Actor(alice), point, database="", reason="because")
        transitions.approve(operation.pk, Actor(bob), operation.plan_digest)
        assert carry_out(operation).state == State.SUCCEEDED, operation.outcome
        assert there(bucket) == {"up/avatar.png": b"another"}
