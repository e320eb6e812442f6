"""The list of files is found in a tar stream, however it is cut into chunks."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from backups.engines.manifest_watch import MANIFEST, ManifestWatch, number


def tar_of(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@given(st.lists(st.binary(max_size=2000), max_size=4), st.binary(min_size=1, max_size=3000), st.integers(1, 4000))
def test_exactly_the_list_comes_out(files: list[bytes], listed: bytes, size: int) -> None:
    stream = tar_of({f"base/{index}": content for index, content in enumerate(files)} | {MANIFEST: listed})
    watch = ManifestWatch()
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert b"".join(map(watch.feed, chunks)) == listed
    assert watch.files == len(files) + 1


def test_files_of_more_than_eight_gigabytes() -> None:
    assert number(b"\x80" + (9 * 2**30).to_bytes(11, "big")) == 9 * 2**30
    assert number(b"00000001750\0") == 1000
