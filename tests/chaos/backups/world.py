"""What a chaos run backs up, and where its backups go."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from backups.models import Kind, Policy, PolicyClock, Storage
from backups.sealing import new_identity
from controlplane.embedded.postgres import Postgres
from controlplane.embedded.processes import free_port, wait_until
from environments.models import Environment
from tests.backups.stores import rclone
from tests.backups.wire import ACCESS_KEY, SECRET_KEY, Proxy
from tests.chaos.backups.writers import Client, fill

BUCKET = "kept"
# How the backups of a lane are brought back: tested or copied, over the database they are of, to a moment between.
PROOF, OVER, MOMENT = "proof", "over", "moment"
CLUSTER, LIVE_LANES = 5, 2


@dataclass
class Lane:
    """One database and its policy. still: a digest of the tables that never change. identity: "" for no encryption.

    way: how its backups are brought back. client: who writes to it, None where the writer of all does.
    """

    policy: Policy
    server: Postgres
    database: str
    identity: str
    still: str
    way: str = PROOF
    client: Client | None = None
    damaged: set[int] = field(default_factory=set)

    @property
    def in_bucket(self) -> bool:
        """Where its backups are."""
        return self.policy.storage.kind == "s3"

    @property
    def is_cluster(self) -> bool:
        """What its backups are of: all databases at once."""
        return self.policy.kind == Kind.PITR


class S3:
    """`rclone serve s3` on a port that stays, behind a proxy that can be told to fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "s3"
        self.log = folder / "logs" / "rclone.log"
        (self.folder / BUCKET).mkdir(parents=True)
        self.port = free_port()
        self.start()
        self.proxy = Proxy(self.port)
        self.client: Any = boto3.client(
            "s3", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10}),
        )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [rclone(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key",
                   f"{ACCESS_KEY},{SECRET_KEY}", str(self.folder)]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
            )  # fmt: skip

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End of the run."""
        self.kill()
        self.proxy.close()

    def uploads(self) -> list[str]:
        """Keys of uploads that are not finished."""
        try:
            found = self.client.list_multipart_uploads(Bucket=BUCKET)
        except self.client.exceptions.NoSuchUpload:
            return []
        return [one["Key"] for one in found.get("Uploads", [])]

    def keys(self) -> list[str]:
        """All objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]


class Places:
    """Both storages, read and damaged by nobody's code but this."""

    def __init__(self, folder: Path, s3: S3) -> None:
        self.folder = folder / "kept"
        self.s3 = s3
        settings = {"endpoint_url": s3.proxy.url, "bucket": BUCKET, "access_key": "env:CHAOS_S3_KEY",
                    "secret_key": "env:CHAOS_S3_SECRET", "answer_seconds": 3, "attempts": 3}  # fmt: skip
        os.environ |= {"CHAOS_S3_KEY": ACCESS_KEY, "CHAOS_S3_SECRET": SECRET_KEY}
        self.disk = Storage.objects.create(slug="disk", kind="folder", settings={"path": "kept"})
        self.bucket = Storage.objects.create(slug="bucket", kind="s3", settings=settings)

    def read(self, lane: Lane, key: str) -> bytes:
        """An object. Raises KeyError when it is not there."""
        try:
            if not lane.in_bucket:
                return (self.folder / key).read_bytes()
            content: bytes = self.s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except (FileNotFoundError, self.s3.client.exceptions.NoSuchKey):
            raise KeyError(key) from None
        return content

    def write(self, lane: Lane, key: str, content: bytes | None) -> None:
        """Behind everybody's back. None: take it away."""
        if not lane.in_bucket:
            path = self.folder / key
            path.unlink() if content is None else path.write_bytes(content)
        elif content is None:
            self.s3.client.delete_object(Bucket=BUCKET, Key=key)
        else:
            self.s3.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def everything(self) -> Iterator[str]:
        """The name of each file and object, hidden ones too."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(self.folder))
        yield from self.s3.keys()


def make_lanes(count: int, company: Postgres, till: Postgres, places: Places) -> list[Lane]:
    """Dumps to a folder and to a bucket, plain and encrypted, small and in parts; the sixth is a cluster's.

    Then those that are restored over their databases, and the till's, which goes back to any moment.
    """
    production = Environment.objects.create(slug="production", name="Production", driver="local")
    lanes = []
    for number in range(count):
        cluster = number == CLUSTER  # then its backups are those of all of them
        lanes.append(_make_lane(
            production, f"shop_{number}", company, places.bucket if number % 2 and not cluster else places.disk,
            kind=Kind.PITR if cluster else Kind.DATABASE, sealed=number in (1, 2),
            wide=1200 if number == 3 else 100,  # 12 MB are more than a part
        ))  # fmt: skip
    for number in range(LIVE_LANES):
        # Each in an environment of its own: what replaces a database in use locks all of it.
        environment = Environment.objects.create(slug=f"live-{number}", name=f"Live {number}", driver="local")
        storage = places.bucket if number % 2 else places.disk
        lanes.append(_make_lane(environment, f"live_{number}", company, storage, way=OVER, sealed=number == 1))
    # The only one whose WAL is received: the company's holds every copy and every restore of the others.
    one = _make_lane(production, "till", till, places.bucket, kind=Kind.PITR, way=MOMENT, sealed=True)
    # Its rounds are the longest: where there are many lanes, two at a time.
    return [*lanes, one, *([replace(one)] if count > CLUSTER else [])]


def _make_lane(
    environment: Environment, database: str, server: Postgres, storage: Storage, *, kind: Kind = Kind.DATABASE,
    way: str = PROOF, sealed: bool = False, wide: int = 100,
) -> Lane:  # fmt: skip
    identity, recipient = new_identity() if sealed else ("", "")
    still = fill(server, database, wide=wide)
    url, key = f"CHAOS_URL_{database}", f"CHAOS_KEY_{database}"
    os.environ |= {url: server.url_of(database), key: identity}
    policy = Policy.objects.create(
        environment=environment, slug=database.replace("_", "-"), kind=kind, storage=storage,
        schedule="0 0 29 2 *", proof=Policy.Proof.NEVER, settings={"database": f"env:{url}"}, full_every=3,
        paused=kind == Kind.PITR and way != MOMENT, recipient=recipient, identity=f"env:{key}" if identity else "",
    )  # fmt: skip
    PolicyClock.objects.create(policy=policy)
    client = None if way == PROOF else Client(server, database, still)
    return Lane(policy, server, database, identity, still, way, client)


def listening(s3: S3) -> bool:
    """Wait until the server answers."""

    def answers() -> bool:
        with suppress(Exception):
            s3.client.list_buckets()
            return True
        return False

    return wait_until(answers, 10.0)
