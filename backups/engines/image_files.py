"""From a backup of images back to a file that `docker load` takes."""

import io
import json
import os
import re
import secrets
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import zstandard

from backups.engines.base import Hand
from backups.engines.contents import PIECE, Verified, damaged, name_of
from backups.engines.images import BLOBS, DEEPEST
from backups.engines.registry_api import INDEXES, MANIFEST_BYTES, Blob, children
from backups.sealing import Sealer
from backups.storage.base import Store
from controlplane.operations.errors import StepError

PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def restore_image(  # noqa: PLR0917 - where from, what, where to
    manifest: Mapping[str, Any], store: Store, sealer: Sealer, reference: str, folder: Path, hand: Hand
) -> Path:
    """Write one image of a backup into a folder, as `<service>-<version>.tar`; returns its path.

    reference: of the image as the manifest's facts name it, or its service, or its digest. An image from a registry
    becomes an OCI layout with docker's own manifest.json beside it, so that `docker load` of any age takes it. Each
    part's checksum is compared; the file appears whole or not at all. Raises StepError.
    """
    image = _image(manifest, reference)
    archive = _Archive(manifest, store, sealer, hand)
    target = (
        folder / f"{PLAIN.sub('_', image['service'])}-{PLAIN.sub('_', image['version'] or image['digest'][:19])}.tar"
    )
    with _appearing(target, hand.check) as file:
        if image["form"] == "oci":
            archive.layout(image, file)
        else:
            archive.copy(image, file)
    hand.log(f"{image['reference']}: {target}, for docker load" if image["form"] != "local" else f"{target}")
    return target


def _image(manifest: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
    images = manifest["facts"]["images"]
    for image in images:
        if reference in (image["reference"], image["service"], image["digest"]):
            return cast(Mapping[str, Any], image)
    known = ", ".join(image["reference"] for image in images)
    raise StepError(f"This backup has no image {reference}; it has {known}.", permanent=True)


@contextmanager
def _appearing(target: Path, check: Callable[[], None]) -> Iterator[IO[bytes]]:
    unfinished = target.with_name(f".restoring-{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check()
        unfinished.replace(target)
    except OSError as error:
        raise StepError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


class _Archive:
    def __init__(self, manifest: Mapping[str, Any], store: Store, sealer: Sealer, hand: Hand) -> None:
        self._store, self._sealer, self._hand = store, sealer, hand
        self._prefix = manifest["key"].rsplit("/", 2)[0] + "/"
        self._key_id: str = manifest["key_id"]

    def copy(self, image: Mapping[str, Any], file: IO[bytes]) -> None:
        """An image that is kept as one tar."""
        done = 0
        with self._content(image["content"], image["sha256"], compressed=image["form"] == "docker-save") as plain:
            while chunk := plain.read(PIECE):
                self._hand.check()
                file.write(chunk)
                done += len(chunk)
                self._hand.progress(done, image["size"], "bytes")

    def layout(self, image: Mapping[str, Any], file: IO[bytes]) -> None:
        """An image that is kept in parts."""
        root = Blob(image["digest"], image["size"], image["media_type"])
        blobs: dict[str, Blob] = {}
        runnable = self._walk(root, blobs, DEEPEST)
        described = {"mediaType": root.media_type, "digest": root.digest, "size": root.size,
                     "annotations": {"org.opencontainers.image.ref.name": image["version"],
                                     "io.containerd.image.name": image["reference"]}}  # fmt: skip
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [described]}
        config, *layers = children(self._small(runnable), runnable.digest)
        docker = [{"Config": f"{BLOBS}{config.hex}", "RepoTags": [image["reference"]],
                   "Layers": [f"{BLOBS}{one.hex}" for one in layers]}]  # fmt: skip
        total, done = sum(blob.size for blob in blobs.values()), 0
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
            _add(tar, "index.json", json.dumps(index).encode())
            _add(tar, "manifest.json", json.dumps(docker).encode())
            for blob in blobs.values():
                self._hand.check()
                self._add_blob(tar, blob)
                done += blob.size
                self._hand.progress(done, total, "bytes")

    def _walk(self, blob: Blob, blobs: dict[str, Blob], depth: int) -> Blob:
        """Everything a manifest names, into `blobs`; returns the manifest that an older docker can run."""
        blobs[blob.digest] = blob
        content = self._small(blob)
        if blob.media_type not in INDEXES and "manifests" not in json.loads(content):
            blobs.update((one.digest, one) for one in children(content, blob.digest))
            return blob
        if depth == 0:
            raise StepError(f"{blob.digest} holds indexes within indexes; that is no image.", permanent=True)
        below = [self._walk(one, blobs, depth - 1) for one in children(content, blob.digest)]
        platforms = [one.get("platform", {}) for one in json.loads(content)["manifests"]]
        likely = [one for one, each in zip(below, platforms, strict=True)
                  if (each.get("os"), each.get("architecture")) == ("linux", "amd64")]  # fmt: skip
        return [*likely, *below, blob][0]

    def _small(self, blob: Blob) -> bytes:
        if blob.size > MANIFEST_BYTES:
            raise StepError(f"{blob.digest} is too large for a manifest.", permanent=True)
        with self._content(name_of(BLOBS, blob.hex, self._key_id), blob.hex) as plain:
            return plain.read()

    def _add_blob(self, tar: tarfile.TarFile, blob: Blob) -> None:
        member = tarfile.TarInfo(f"{BLOBS}{blob.hex}")
        member.size = blob.size
        with self._content(name_of(BLOBS, blob.hex, self._key_id), blob.hex) as plain:
            tar.addfile(member, plain)
            plain.read(1)  # at its end the checksum is compared

    @contextmanager
    def _content(self, name: str, sha256: str, *, compressed: bool = False) -> Iterator[BinaryIO]:
        """What an object holds; StepError at its end when that is something else."""
        key = self._prefix + name
        with self._store.open(key) as stored, self._sealer.unseal(stored, self._key_id) as plain:
            try:
                if compressed:
                    with zstandard.ZstdDecompressor().stream_reader(plain, closefd=False) as larger:
                        yield io.BufferedReader(Verified(larger, key, sha256), PIECE)
                else:
                    yield io.BufferedReader(Verified(plain, key, sha256), PIECE)
            except (zstandard.ZstdError, tarfile.TarError) as error:
                raise damaged(key) from error
            except OSError as error:
                if str(error) == "unexpected end of data":  # how tarfile calls a member that is too short
                    raise damaged(key) from error
                raise


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
