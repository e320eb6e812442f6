"""Encryption: what stock age opens, wrong keys and changed bytes in words, constant memory, no thread left behind."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyrage
import pytest

from backups.sealing import Sealer, new_identity, problem_with_recipient
from controlplane.operations.errors import LeaseLost, StepError

CHUNK = bytes(range(256)) * 400  # does not end where age's own pieces do


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Checked after each test."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def sealer(data_dir: Path) -> Sealer:
    """A pair of keys, the secret one in a file as `age-keygen` writes it."""
    return keep(data_dir, "key.txt", new_identity())


def keep(data_dir: Path, name: str, *pairs: tuple[str, str]) -> Sealer:
    """Encrypts to the first pair."""
    (data_dir / "secrets").mkdir(exist_ok=True)
    lines = [f"# created: 2026-01-05T10:00:00Z\n# public key: {recipient}\n{secret}\n" for secret, recipient in pairs]
    (data_dir / "secrets" / name).write_text("\n".join(lines))
    return Sealer(pairs[0][1], f"file:{name}")


def sealed(sealer: Sealer, *chunks: bytes) -> bytes:
    return b"".join(sealer.seal(chunks))


def unsealed(sealer: Sealer, data: bytes) -> bytes:
    with io.BytesIO(data) as source, sealer.unseal(source, sealer.key_id) as stream:
        return stream.read()


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_there_and_back(sealer: Sealer, count: int) -> None:
    data = sealed(sealer, *[CHUNK] * count)
    assert data.startswith(b"age-encryption.org/v1\n") and CHUNK[:256] not in data
    assert unsealed(sealer, data) == CHUNK * count


def test_stock_age_opens_it(sealer: Sealer, data_dir: Path) -> None:
    identity = (data_dir / "secrets/key.txt").read_text().splitlines()[-1]
    data = sealed(sealer, b"one, ", b"", b"two")
    assert pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(identity)]) == b"one, two"


def test_small_reads(sealer: Sealer) -> None:
    data = sealed(sealer, CHUNK, CHUNK)
    with io.BytesIO(data) as source, sealer.unseal(source, sealer.key_id) as stream:
        pieces = list(iter(lambda: stream.read(1000), b""))
    assert b"".join(pieces) == CHUNK * 2
    assert {len(piece) for piece in pieces[:-1]} == {1000}


def test_without_a_recipient_nothing_is_changed() -> None:
    plain = Sealer()
    assert (plain.key_id, plain.suffix) == ("", "")
    assert list(plain.seal([b"a", b"b"])) == [b"a", b"b"]
    source = io.BytesIO(b"ab")
    assert plain.unseal(source, "") is source


def test_an_older_backup_opens_after_a_change_of_keys(data_dir: Path) -> None:
    old, new = new_identity(), new_identity()
    data = sealed(Sealer(old[1]), CHUNK)
    both = keep(data_dir, "both.txt", new, old)
    with io.BytesIO(data) as source, both.unseal(source, old[1]) as stream:
        assert stream.read() == CHUNK


class TestWrong:
    """Keys that do not fit, and bytes that are not what was written."""

    def test_another_key_is_named(self, sealer: Sealer, data_dir: Path) -> None:
        secret, public = new_identity()
        other = keep(data_dir, "other.txt", (secret, public))
        with io.BytesIO(sealed(sealer, CHUNK)) as source, pytest.raises(StepError) as raised:
            other.unseal(source, sealer.key_id)
        assert str(raised.value) == (
            f"This backup is encrypted to {sealer.recipient}, but the identity file:other.txt belongs to {public}. "
            "Give the policy the reference of the key that fits."
        )
        assert raised.value.permanent

    def test_no_key(self, sealer: Sealer) -> None:
        with pytest.raises(StepError, match="its policy names no identity") as raised:
            Sealer(sealer.recipient).unseal(io.BytesIO(), sealer.key_id)
        assert raised.value.permanent

    def test_a_secret_that_is_no_key(self, sealer: Sealer, data_dir: Path) -> None:
        (data_dir / "secrets/key.txt").write_text("correct horse battery staple")
        with pytest.raises(StepError, match=r"file:key\.txt is no age key") as raised:
            sealer.unseal(io.BytesIO(), sealer.key_id)
        assert raised.value.permanent and "horse" not in str(raised.value)

    @pytest.mark.parametrize("at", [30, 60, 200, 65_000, 100_000, -1])
    def test_a_flipped_bit(self, sealer: Sealer, at: int) -> None:
        data = bytearray(sealed(sealer, CHUNK, CHUNK))
        data[at] ^= 1
        with pytest.raises(StepError, match=r"was changed or cut off in the storage|belongs to") as raised:
            unsealed(sealer, bytes(data))
        assert raised.value.permanent

    @pytest.mark.parametrize("left", [0, 10, 150, 184, 200, 200 + 65_552, 216 + 65_552, -16, -1])
    def test_a_cut(self, sealer: Sealer, left: int) -> None:
        with pytest.raises(StepError, match="was changed or cut off in the storage") as raised:
            unsealed(sealer, sealed(sealer, CHUNK, CHUNK)[:left])
        assert raised.value.permanent

    def test_cut_where_a_piece_of_age_ends(self, sealer: Sealer) -> None:
        data = sealed(sealer, bytes(2 * 65_536))
        header = len(data) - 2 * (65_536 + 16)
        for pieces in (0, 1):
            with pytest.raises(StepError, match="was changed or cut off"):
                unsealed(sealer, data[: header + pieces * (65_536 + 16)])

    def test_recipients(self, sealer: Sealer) -> None:
        assert problem_with_recipient(sealer.recipient) == ""
        assert "is no age public key" in problem_with_recipient("age1x")
        assert problem_with_recipient(new_identity()[0]).startswith("is a secret key")
        with pytest.raises(StepError, match="The recipient age1x is no age public key"):
            sealed(Sealer("age1x"), b"")


class TestOnTheWay:
    """Errors come out as they went in, and whoever stops early stops everything."""

    @pytest.mark.parametrize("after", [0, 1, 30])
    @pytest.mark.parametrize("error", [StepError("pg_dump was killed"), LeaseLost("gone")], ids=["error", "lease"])
    def test_an_error_of_the_source_of_a_seal(self, sealer: Sealer, after: int, error: BaseException) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(after):
                yield CHUNK
            raise error

        with pytest.raises(type(error)) as raised:
            list(sealer.seal(chunks()))
        assert raised.value is error

    @pytest.mark.parametrize("error", [StepError("S3 is away"), LeaseLost("gone")], ids=["error", "lease"])
    def test_an_error_of_what_is_unsealed(self, sealer: Sealer, error: BaseException) -> None:
        class Breaks(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() > 100_000:
                    raise error
                return super().read(size)

        with (
            Breaks(sealed(sealer, *[CHUNK] * 9)) as source,
            pytest.raises(type(error)) as raised,
            sealer.unseal(source, sealer.key_id) as stream,
        ):
            stream.read()
        assert raised.value is error

    def test_closing_a_seal_early_closes_its_source(self, sealer: Sealer) -> None:
        ended = []

        def chunks() -> Iterator[bytes]:
            try:
                while True:
                    yield CHUNK
            finally:
                ended.append(threading.current_thread())

        with closing(sealer.seal(chunks())) as stream:  # type: ignore[type-var]
            next(stream)
        assert ended == [threading.current_thread()]

    def test_a_seal_that_nobody_asked_anything_of(self, sealer: Sealer) -> None:
        sealer.seal([CHUNK])

    def test_closing_what_is_unsealed_early(self, sealer: Sealer) -> None:
        with io.BytesIO(sealed(sealer, *[CHUNK] * 50)) as source:
            stream = sealer.unseal(source, sealer.key_id)
            assert stream.read(3) == CHUNK[:3]
            stream.close()

    def test_pieces_come_while_the_source_still_goes(self, sealer: Sealer) -> None:
        asked = 0

        def chunks() -> Iterator[bytes]:
            nonlocal asked
            for asked in range(1000):  # noqa: B007
                yield CHUNK

        with closing(sealer.seal(chunks())) as stream:  # type: ignore[type-var]
            next(stream)
            assert asked < 20


MEMORY = """
import resource
import django
django.setup()
from backups.sealing import Sealer, new_identity
import os, io
os.environ["IDENTITY"], recipient = new_identity()
sealer = Sealer(recipient, "env:IDENTITY")
class Source(io.RawIOBase):
    def __init__(self, chunks):
        self.chunks, self.rest = chunks, b""
    def readable(self):
        return True
    def readinto(self, into):
        self.rest = self.rest or next(self.chunks, b"")
        size = min(len(into), len(self.rest))
        into[:size], self.rest = self.rest[:size], self.rest[size:]
        return size
def run(count):
    with sealer.unseal(io.BufferedReader(Source(sealer.seal(os.urandom(100_000) for _ in range(count)))), recipient) as plain:
        return sum(len(piece) for piece in iter(lambda: plain.read(1 << 20), b""))
run(50)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert run(1000) == 100_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""  # noqa: E501


def test_memory_does_not_grow_with_the_stream() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert int(ran.stdout) < 8_000  # KB, for 100 MB
