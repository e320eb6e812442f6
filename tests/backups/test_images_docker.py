"""Images by `docker save` on a docker host, and those of the local driver: whole, of the wanted digest, and shared."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.engines.image_tar import ImageTar
from backups.engines.images import ImagesEngine, unreferenced
from backups.restoring_files import restore_image
from backups.sealing import Sealer, new_identity
from controlplane.operations.errors import StepError
from tests.backups.files import Shelf
from tests.backups.registries import DockerHost, docker, noise, saved
from tests.estate import Estate

pytestmark = pytest.mark.django_db

DIGEST = "sha256:" + "ab" * 32
IDENTITY = "sha256:" + "cd" * 32
LAYER = noise(300_000)


@pytest.fixture
def host() -> DockerHost:
    image = {"Id": IDENTITY, "RepoDigests": [f"team/api@{DIGEST}"], "RepoTags": ["other:1", "team/api:1.5.0"]}
    return DockerHost({f"team/api@{DIGEST}": image}, saved(IDENTITY, LAYER, b"", b"x" * 513))


@pytest.fixture
def shelf(estate: Estate, host: DockerHost, tmp_path: Path) -> Iterator[Shelf]:
    estate.production.placements.update(version="1.5.0", digest=DIGEST)
    with docker(host, tmp_path) as address:
        settings = {"docker": {"host": address, "repositories": {"api": "team/api"}}}
        yield Shelf(ImagesEngine(), "images", settings, tmp_path / "storage")


def restored(shelf: Shelf, tmp_path: Path) -> Path:
    return restore_image(shelf.manifests[-1], shelf.store, shelf.sealer, DIGEST, tmp_path / "images", shelf.hand)


@pytest.mark.parametrize("sealed", [False, True])
def test_there_and_back(
    shelf: Shelf, host: DockerHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    if sealed:
        secret, recipient = new_identity()
        monkeypatch.setenv("AGE_KEY", secret)
        shelf.sealer = Sealer(recipient, "env:AGE_KEY")
    ImagesEngine().look(shelf.job(), shelf.hand)
    manifest = shelf.take()
    (image,) = manifest["facts"]["images"]
    assert image["reference"] == "team/api:1.5.0" and "/images/team/api:1.5.0/get" in host.asked
    assert shelf.keys("saved/") == [image["content"]]
    assert restored(shelf, tmp_path).read_bytes() == host.tar
    host.asked.clear()
    second = shelf.take()
    assert second["facts"]["new_files"] == 0 and not any(path.endswith("/get") for path in host.asked)
    assert list(unreferenced(shelf.store, shelf.prefix, [second])) == []
    assert list(unreferenced(shelf.store, shelf.prefix, [])) == [shelf.prefix + image["content"]]


def test_one_that_is_not_as_it_was_put_is_saved_again(shelf: Shelf, tmp_path: Path, host: DockerHost) -> None:
    (image,) = shelf.take()["facts"]["images"]
    path = shelf.root / shelf.prefix / image["content"]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(StepError) as raised:
        restored(shelf, tmp_path)
    assert raised.value.permanent
    shelf.take()
    assert restored(shelf, tmp_path).read_bytes() == host.tar


def test_without_a_tag_it_is_saved_by_its_digest(shelf: Shelf, host: DockerHost) -> None:
    host.images[f"team/api@{DIGEST}"]["RepoTags"] = ["other:1"]
    shelf.take()
    assert f"/images/team/api@{DIGEST}/get" in host.asked


@pytest.mark.parametrize("harm", ["connection", "error", "end", "middle", "other", "status", "empty"])
def test_half_an_image_is_no_backup(shelf: Shelf, host: DockerHost, harm: str) -> None:
    """A docker host that fails midway writes its error into the tar and ends it properly."""
    if harm == "connection":
        host.cut = 100_000
    elif harm == "error":
        host.tar = host.tar[:200_000] + b'{"errorDetail":{"message":"input/output error"}}\r\n'
    elif harm == "end":
        host.tar = host.tar[: host.tar.rindex(b"]") + 300]
    elif harm == "middle":
        host.tar = host.tar[:512] + host.tar[1024:]
    elif harm == "other":
        host.tar = saved("sha256:" + "ef" * 32, LAYER)
    elif harm == "status":
        host.status = 500
    else:
        host.tar = b""
    with pytest.raises(StepError) as raised:
        shelf.take()
    assert not raised.value.permanent
    assert shelf.keys() == []


def test_an_image_that_is_not_there_is_named(shelf: Shelf, host: DockerHost) -> None:
    host.images[f"team/api@{DIGEST}"]["RepoDigests"] = ["team/api@sha256:" + "00" * 32]
    with pytest.raises(StepError, match="without sha256:abab"):
        ImagesEngine().look(shelf.job(), shelf.hand)
    host.images.clear()
    with pytest.raises(StepError, match=f"has no team/api@{DIGEST}. Pull it there") as raised:
        ImagesEngine().look(shelf.job(), shelf.hand)
    assert raised.value.permanent


def test_no_docker_there(shelf: Shelf, tmp_path: Path) -> None:
    shelf.settings["docker"]["host"] = f"unix://{tmp_path}/nobody.sock"
    with pytest.raises(StepError, match="cannot be reached") as raised:
        ImagesEngine().look(shelf.job(), shelf.hand)
    assert not raised.value.permanent


@pytest.mark.parametrize("piece", [1, 511, 512, 513, 100_000, 10_000_000])
def test_a_tar_is_followed_in_pieces_of_any_size(piece: int) -> None:
    data = saved(IDENTITY, noise(2000), b"x")
    watch = ImageTar("it")
    for start in range(0, len(data), piece):
        watch.feed(data[start : start + piece])
    assert IDENTITY.removeprefix("sha256:").encode() in watch.end()


class TestLocal:
    @pytest.fixture
    def local(self, estate: Estate, tmp_path: Path) -> Shelf:
        return Shelf(ImagesEngine(), "images", {"local": True}, tmp_path / "storage")

    def test_what_the_local_driver_runs(self, local: Shelf, estate: Estate, tmp_path: Path) -> None:
        ImagesEngine().look(local.job(), local.hand)
        (image,) = local.take()["facts"]["images"]
        path = restore_image(local.manifests[0], local.store, local.sealer, "api", tmp_path / "images", local.hand)
        with tarfile.open(path) as tar:
            about: Any = json.load(tar.extractfile("image.json"))  # type: ignore[arg-type]
            assert tar.getnames() == ["image.json", "sample_service.py"]
        assert about["digest"] == image["digest"] and "No container image" in about["note"]
        assert local.take()["facts"]["new_files"] == 0

    def test_another_name_is_refused(self, local: Shelf, tmp_path: Path) -> None:
        local.take()
        with pytest.raises(StepError, match=r"has no image web; it has api:1.4.0"):
            restore_image(local.manifests[0], local.store, local.sealer, "web", tmp_path, local.hand)
