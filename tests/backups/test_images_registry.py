"""Images from a registry: everything by digest, nothing believed, what is cut off taken up, and docker can load it."""

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backups.engines import registry_api
from backups.engines.contents import suffix_for
from backups.engines.images import ImagesEngine, unreferenced
from backups.restoring_files import restore_image
from backups.sealing import Sealer, new_identity
from controlplane.operations.errors import StepError
from tests.backups.files import Shelf
from tests.backups.registries import Content, Wire, noise, registry, sha256
from tests.estate import Estate

pytestmark = pytest.mark.django_db

LAYERS = gzip.compress(b"one" * 1000), gzip.compress(noise(3_000_000))


@pytest.fixture
def content() -> Content:
    return Content()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def shelf(
    estate: Estate, content: Content, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shelf]:
    runs(estate, content.image(*LAYERS))
    monkeypatch.setenv("REGISTRY_PASSWORD", wire.user[1])
    monkeypatch.setenv("REGISTRY_TOKEN", "a-token-of-the-test")
    with registry(content, wire) as url:
        settings = {"registry": {"url": url, "repositories": {"api": "team/api"}}}
        yield Shelf(ImagesEngine(), "images", settings, tmp_path / "storage")


def runs(estate: Estate, digest: str) -> None:
    estate.production.placements.update(version="1.5.0", digest=digest)


def impatient(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> list[float]:
    """Waits are counted, not waited for."""
    waited: list[float] = []
    monkeypatch.setattr(shelf.hand, "wait", waited.append)
    return waited


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {one.name: file.read() for one in tar if (file := tar.extractfile(one))}


def load(path: Path) -> list[bytes]:
    """What docker does with it, by the layout's index and by its own manifest: they agree. Returns the layers."""
    files = members(path)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    (described,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files[f"blobs/sha256/{described['digest'].removeprefix('sha256:')}"])
    if "manifests" in manifest:
        manifest = json.loads(files["blobs/sha256/" + manifest["manifests"][-1]["digest"].removeprefix("sha256:")])
    (classic,) = json.loads(files["manifest.json"])
    assert classic["Layers"] == [f"blobs/sha256/{one['digest'].removeprefix('sha256:')}" for one in manifest["layers"]]
    assert classic["Config"].endswith(manifest["config"]["digest"].removeprefix("sha256:"))
    return [files[name] for name in classic["Layers"]]


def restored(shelf: Shelf, tmp_path: Path, reference: str = "api") -> Path:
    return restore_image(shelf.manifests[-1], shelf.store, shelf.sealer, reference, tmp_path / "images", shelf.hand)


def test_there_and_back(shelf: Shelf, content: Content, tmp_path: Path) -> None:
    ImagesEngine().look(shelf.job(), shelf.hand)
    (image,) = shelf.take()["facts"]["images"]
    host = shelf.settings["registry"]["url"].removeprefix("http://")
    assert (image["service"], image["version"]) == ("api", "1.5.0")
    assert image["reference"] == f"{host}/team/api:1.5.0" and image["digest"] in content.manifests
    hexes = [digest.removeprefix("sha256:") for digest in (*content.blobs, *content.manifests)]
    assert shelf.keys("blobs/") == sorted(f"blobs/sha256/{one}" for one in hexes)
    path = restored(shelf, tmp_path, image["reference"])
    assert path.name == "api-1.5.0.tar" and load(path) == list(LAYERS)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_is_there_already_is_not_fetched_again(shelf: Shelf, content: Content, wire: Wire, estate: Estate) -> None:
    shelf.take()
    wire.asked.clear()
    assert shelf.take()["facts"]["new_files"] == 0
    assert [path for path, _ in wire.asked if "/blobs/" in path] == []
    runs(estate, content.image(LAYERS[0], b"another"))
    assert shelf.take()["facts"]["new_files"] == 2  # the layer and the manifest; the configuration is the same
    first, _, last = shelf.manifests
    (gone,) = {key for key in unreferenced(shelf.store, shelf.prefix, [last]) if sha256(LAYERS[1])[7:] in key}
    assert gone not in unreferenced(shelf.store, shelf.prefix, [first])


def test_an_index_is_copied_with_every_platform(shelf: Shelf, content: Content, estate: Estate, tmp_path: Path) -> None:
    arm = content.image(LAYERS[0], b"arm", platform="arm64")
    amd = content.image(LAYERS[0], b"amd")
    runs(estate, content.index((arm, "arm64"), (amd, "amd64")))
    shelf.take()
    path = restored(shelf, tmp_path)
    assert load(path) == [LAYERS[0], b"amd"]
    assert {f"blobs/sha256/{digest[7:]}" for digest in (arm, amd, sha256(b"arm"))} <= members(path).keys()


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_it_signs_in(shelf: Shelf, wire: Wire, auth: str) -> None:
    wire.auth = auth
    with pytest.raises(StepError, match=r"user|does not let us read") as raised:
        shelf.take()
    assert raised.value.permanent
    shelf.settings["registry"] |= {"username": wire.user[0], "password": "env:REGISTRY_PASSWORD"}
    shelf.take()
    assert wire.user[1] in shelf.hand.masked
    assert all(word not in "\n".join(shelf.hand.lines) for word in (wire.user[1], "a-token-of-the-test"))


def test_a_token_of_the_settings(shelf: Shelf, wire: Wire) -> None:
    wire.auth = "token"
    shelf.settings["registry"] |= {"token": "env:REGISTRY_TOKEN"}
    shelf.take()
    assert not any(path.startswith("/token") for path, _ in wire.asked)


def test_who_it_is_redirected_to_gets_no_password(shelf: Shelf, content: Content, wire: Wire) -> None:
    elsewhere = Wire()
    with registry(content, elsewhere) as other:
        wire.auth, wire.redirect = "token", other
        shelf.settings["registry"] |= {"token": "env:REGISTRY_TOKEN"}
        shelf.take()
    assert elsewhere.asked and {authorization for _, authorization in elsewhere.asked} == {""}


def test_nobody_is_sent_to_a_metadata_service(shelf: Shelf, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, shelf)
    wire.redirect = "http://169.254.169.254"
    with pytest.raises(StepError, match="metadata"):
        shelf.take()
    assert "metadata" in ImagesEngine().check_settings({"registry": {"url": wire.redirect}})["registry.url"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_taken_up(
    shelf: Shelf, wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ranges: bool
) -> None:
    impatient(monkeypatch, shelf)
    wire.ranges = ranges
    wire.cuts.extend([2, 3, 700_000, 1_500_000])
    shelf.take()
    assert load(restored(shelf, tmp_path)) == list(LAYERS)


def test_one_that_is_always_cut_fails_and_may_be_tried_again(
    shelf: Shelf, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, shelf)
    wire.cuts.extend([0] * 50)
    with pytest.raises(StepError, match=r"ended sha256:.* after 0 of") as raised:
        shelf.take()
    assert not raised.value.permanent
    assert shelf.keys("blobs/") == []


def test_slow_downs_and_errors_of_the_server_are_waited_out(
    shelf: Shelf, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = impatient(monkeypatch, shelf)
    wire.statuses.extend([(429, {"Retry-After": "7"}), (503, {})])
    shelf.take()
    assert waited[0] == 7.0 and 0 < waited[1] < 7
    wire.statuses.extend([(500, {})] * registry_api.TRIES)
    with pytest.raises(StepError, match="trouble of its own") as raised:
        shelf.take()
    assert not raised.value.permanent


@pytest.mark.parametrize("lie", ["other", "longer"])
def test_other_bytes_than_the_digest_says_are_refused(shelf: Shelf, content: Content, lie: str) -> None:
    content.lies[sha256(LAYERS[0])] = b"x" * len(LAYERS[0]) if lie == "other" else LAYERS[0] + b"more"
    with pytest.raises(StepError, match=r"gives other bytes|gives more than") as raised:
        shelf.take()
    assert raised.value.permanent
    assert not [key for key in shelf.keys("blobs/") if sha256(LAYERS[0])[7:] in key]


def test_another_manifest_than_the_digest_says_is_refused(shelf: Shelf, content: Content, estate: Estate) -> None:
    digest = estate.production.placements.get().digest
    content.manifests[digest] = b"{}", "application/json"
    with pytest.raises(StepError, match="something else than"):
        ImagesEngine().look(shelf.job(), shelf.hand)


def test_what_is_missing_is_named(shelf: Shelf, content: Content, estate: Estate) -> None:
    runs(estate, "sha256:" + "0" * 64)
    with pytest.raises(StepError, match="does not have it in team/api") as raised:
        shelf.take()
    assert raised.value.permanent
    estate.production.placements.update(digest="")
    with pytest.raises(StepError, match="Deploy first"):
        shelf.take()


def test_nobody_there(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, shelf)
    shelf.settings["registry"]["url"] = "http://127.0.0.1:1"
    with pytest.raises(StepError, match=r"127.0.0.1:1 (cannot be asked|was cut off)") as raised:
        shelf.take()
    assert not raised.value.permanent


def test_sealed(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, recipient = new_identity()
    monkeypatch.setenv("AGE_KEY", secret)
    shelf.sealer = Sealer(recipient, "env:AGE_KEY")
    shelf.take()
    assert all(key.endswith(suffix_for(recipient)) for key in shelf.keys("blobs/"))
    assert load(restored(shelf, tmp_path)) == list(LAYERS)
    assert shelf.take()["facts"]["new_files"] == 0


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_blob_is_found_at_the_restore(shelf: Shelf, tmp_path: Path, harm: str) -> None:
    shelf.take()
    path = shelf.root / shelf.prefix / f"blobs/sha256/{sha256(LAYERS[1])[7:]}"
    data = bytearray(path.read_bytes())
    data[1_000_000] ^= 1
    path.unlink()
    if harm != "gone":
        path.write_bytes(data if harm == "flip" else data[:1_500_000])
    with pytest.raises(StepError) as raised:
        restored(shelf, tmp_path)
    assert raised.value.permanent and not list((tmp_path / "images").iterdir())
    if harm != "flip":
        assert shelf.take()["facts"]["new_files"] == 1  # the next backup makes it whole again


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "registry"),
        ({"registry": {"url": "http://r"}, "local": True}, "local"),
        ({"registry": "x"}, "registry"),
        ({"registry": {"url": "ftp://r"}}, "registry.url"),
        ({"registry": {"url": "http://u:p@r"}}, "registry.url"),
        ({"registry": {"url": "http://r", "username": "u"}}, "registry.username"),
        ({"registry": {"url": "http://r", "username": "u", "password": "in the clear"}}, "registry.password"),
        ({"registry": {"url": "http://r", "token": "in the clear"}}, "registry.token"),
        ({"registry": {"url": "http://r", "repositories": {"a": 1}}}, "registry.repositories"),
        ({"registry": {"url": "http://r", "else": 1}}, "registry.else"),
        ({"docker": {"host": "http://r"}}, "docker.host"),
        ({"docker": {"host": "tcp://169.254.169.254:2375"}}, "docker.host"),
        ({"local": False}, "local"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], key: str) -> None:
    assert key in ImagesEngine().check_settings(settings)


def test_good_settings() -> None:
    for good in (
        {"local": True},
        {"docker": {"host": "unix:///var/run/docker.sock"}},
        {"docker": {"host": "tcp://127.0.0.1:2375", "repositories": {"a": "team/a"}}},
        {"registry": {"url": "https://r", "username": "u", "password": "env:P"}},
    ):
        assert ImagesEngine().check_settings(good) == {}
