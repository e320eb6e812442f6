"""Images: what each service of the environment runs now, by its digest, from where it can be had.

    {"registry": {"url", "repositories": {"service": "repository"}, "username", "password", "token"}}
        Manifests, configurations and layers as they are in the registry, each an object `blobs/sha256/<digest>` that
        all backups of the policy share.
    {"docker": {"host": "unix:///var/run/docker.sock", "repositories": {…}}}
        What `docker save` writes, compressed, an object `saved/<digest of the image>` that all backups share.
    {"local": true}
        For environments of the `local` driver, whose releases are no images: a small tar with the version, the digest
        and the program that its instances run.

A repository that is not named is called like its service. Passwords and tokens are secret references.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zstandard
from django.conf import settings as django_settings

from backups.engines.base import Hand, Job, Taken
from backups.engines.contents import REFERENCES, Contents, Lines, name_of, unreferenced
from backups.engines.docker_api import Docker, problem_with_host
from backups.engines.registry_api import DIGEST, INDEXES, Blob, Credentials, Registry, children
from backups.storage.base import Stored
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError
from environments.addresses import problem_with
from environments.models import Placement
from environments.secrets import problem_with as problem_with_secret

__all__ = ["ImagesEngine", "unreferenced"]

FORMAT = "controlplane images 1"
IMAGES = "images.json"
BLOBS, SAVED = "blobs/sha256/", "saved/"
DEEPEST = 4  # indexes within indexes
KNOWN = {
    "registry": {"url", "repositories", "username", "password", "token"},
    "docker": {"host", "repositories"},
}
PROGRAM = "controlplane/embedded/sample_service.py"

Image = dict[str, Any]


class ImagesEngine:
    """See `base.Engine`."""

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """See `base.Engine`."""
        if len(settings) != 1 or not settings.keys() <= {"registry", "docker", "local"}:
            return dict.fromkeys(settings or ["registry"], "has to be one of registry, docker and local, and only one")
        ((kind, given),) = settings.items()
        if kind == "local":
            return {} if given is True else {"local": "has to be true"}
        if not isinstance(given, dict):
            return {kind: "has to be a table"}
        wrong = {
            key: f"is no setting of it; there are {', '.join(sorted(KNOWN[kind]))}"
            for key in given.keys() - KNOWN[kind]
        }
        wrong |= _wrong_repositories(given.get("repositories", {}))
        wrong |= _wrong_registry(given) if kind == "registry" else _wrong_docker(given)
        return {f"{kind}.{key}": words for key, words in wrong.items()}

    def look(self, job: Job, hand: Hand) -> None:
        """Each image is there."""
        _Run(job, hand).look()

    def take(self, job: Job, hand: Hand) -> Taken:
        """See `base.Engine`."""
        return _Run(job, hand).taken()


def _wrong_repositories(given: Any) -> dict[str, str]:
    good = isinstance(given, dict) and all(isinstance(one, str) and one.strip("/") for one in given.values())
    return {} if good else {"repositories": 'has to be a table like { pitchey-backend = "team/pitchey-backend" }'}


def _wrong_registry(given: Mapping[str, Any]) -> dict[str, str]:
    wrong = {}
    if words := problem_with(str(given.get("url", ""))):
        wrong["url"] = words
    for key in ("password", "token"):
        if key in given and (words := problem_with_secret(str(given[key]))):
            wrong[key] = words
    if ("username" in given) != ("password" in given):
        wrong["username"] = "goes together with password: give both or neither"
    if not isinstance(given.get("username", ""), str):
        wrong["username"] = "has to be text"
    return wrong


def _wrong_docker(given: Mapping[str, Any]) -> dict[str, str]:
    words = problem_with_host(given.get("host"))
    return {"host": words} if words else {}


class _Run:
    def __init__(self, job: Job, hand: Hand) -> None:
        self.job, self.hand = job, hand
        ((self.kind, given),) = job.settings.items()
        self.given: Mapping[str, Any] = given if isinstance(given, dict) else {}
        self.read = 0
        self.written: list[Stored] = []
        self.placements = self._placements()

    def _placements(self) -> list[Placement]:
        rows = Placement.objects.filter(environment__slug=self.job.environment).select_related("service")
        found = []
        for placement in rows.order_by("service__slug"):
            if DIGEST.fullmatch(placement.digest) or (placement.digest and self.kind == "local"):
                found.append(placement)
            else:
                words = f"{placement.service.slug} has no digest here, since nothing was deployed: it is left out"
                self.hand.log(words, level="warning")
        if not found:
            words = f"No service of {self.job.environment} has a digest yet, so there is no image. Deploy first."
            raise StepError(words, permanent=True)
        return found

    def look(self) -> None:
        if self.kind == "registry":
            registry = self._registry()
            for placement in self.placements:
                registry.manifest(self._repository(placement), placement.digest)
        elif self.kind == "docker":
            for placement in self.placements:
                Docker(self.given["host"]).look(self._repository(placement), placement.version, placement.digest)

    def taken(self) -> Taken:
        at = database_time()
        takers: dict[str, Callable[[], Iterator[tuple[Image, set[str]]]]] = {
            "registry": self._from_registry, "docker": self._from_docker, "local": self._from_local,
        }  # fmt: skip
        images: list[Image] = []
        names: set[str] = set()
        for number, (image, needed) in enumerate(takers[self.kind](), start=1):
            images.append(image)
            names |= needed
            self.hand.progress(number, len(self.placements), "images")
        job, check = self.job, self.hand.check
        content = json.dumps({"format": FORMAT, "images": images}, indent=1).encode()
        main = job.store.put(job.key + IMAGES + job.sealer.suffix, job.sealer.seal([content]), check=check)
        with Lines() as needs:
            for name in sorted(names):
                needs.add(name)
            references = job.store.put(job.key + REFERENCES, needs.chunks(), check=check)
        stored = sum(one.size for one in self.written)
        self.hand.log(f"{len(images)} images, {len(self.written)} new objects of {stored} bytes")
        facts = {"images": images, "new_files": len(self.written), "stored_bytes": stored}
        return Taken((main, references), at, self.read, facts)

    def _repository(self, placement: Placement) -> str:
        slug = placement.service.slug
        return str(self.given.get("repositories", {}).get(slug, slug)).strip("/")

    def _image(self, placement: Placement, form: str, reference: str, **more: Any) -> Image:
        return {"service": placement.service.slug, "version": placement.version, "digest": placement.digest,
                "reference": reference, "form": form, **more}  # fmt: skip

    # --- a registry ---

    def _registry(self) -> Registry:
        credentials = {key: str(self.given[key]) for key in ("username", "password", "token") if key in self.given}
        return Registry(str(self.given["url"]), Credentials(**credentials), self.hand)

    def _from_registry(self) -> Iterator[tuple[Image, set[str]]]:
        registry = self._registry()
        contents = Contents(self.job.store, self.job.prefix, BLOBS, self.job.sealer)
        done: set[str] = set()
        for placement in self.placements:
            repository = self._repository(placement)
            needed: set[str] = set()
            content, media_type = registry.manifest(repository, placement.digest)
            root = Blob(placement.digest, len(content), media_type)
            for blob, chunks in _tree(registry, repository, root, content, DEEPEST):
                needed.add(contents.name(blob.hex))
                if blob.digest not in done:
                    done.add(blob.digest)
                    self._put(contents, blob, chunks)
            reference = f"{registry.host}/{repository}:{placement.version}"
            yield self._image(placement, "oci", reference, media_type=media_type, size=root.size), needed

    def _put(self, contents: Contents, blob: Blob, chunks: Iterator[bytes]) -> None:
        if contents.there(blob.hex, blob.size) is None:
            self.hand.log(f"{blob.digest}: {blob.size} bytes")
            self.read += blob.size
            self.written.append(contents.put(blob.hex, chunks, self.hand.check))

    # --- a docker host ---

    def _from_docker(self) -> Iterator[tuple[Image, set[str]]]:
        docker = Docker(str(self.given["host"]))
        for placement in self.placements:
            name, identity = docker.look(self._repository(placement), placement.version, placement.digest)
            content = name_of(SAVED, placement.digest.removeprefix("sha256:"), self.job.sealer.key_id)
            facts = self._saved_before(placement.digest, content)
            if facts is None:
                facts = self._save(content, docker.save(name, (identity, placement.digest)))
            yield self._image(placement, "docker-save", name, content=content, **facts), {content}

    def _saved_before(self, digest: str, content: str) -> dict[str, Any] | None:
        """What is known of the object an earlier backup made of it; None when it is not there as it was put."""
        for one in self.job.parent["facts"].get("images", []) if self.job.parent else []:
            if one["digest"] == digest and one.get("content") == content and "stored" in one:
                there = self.job.store.head(self.job.prefix + content)
                if there is not None and there.size == one["stored"]:
                    return {key: one[key] for key in ("sha256", "size", "stored")}
        return None

    def _save(self, content: str, chunks: Iterator[bytes]) -> dict[str, Any]:
        seen, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                seen.update(chunk)
                size += len(chunk)
                yield chunk

        key, sealer = self.job.prefix + content, self.job.sealer
        stored = self.job.store.put(key, sealer.seal(compressed(counted())), check=self.hand.check)
        self.read += size
        self.written.append(stored)
        return {"sha256": seen.hexdigest(), "size": size, "stored": stored.size}

    # --- the local driver ---

    def _from_local(self) -> Iterator[tuple[Image, set[str]]]:
        contents = Contents(self.job.store, self.job.prefix, BLOBS, self.job.sealer)
        for placement in self.placements:
            data = _local_archive(placement)
            digest = hashlib.sha256(data).hexdigest()
            self._put(contents, Blob(f"sha256:{digest}", len(data), "application/x-tar"), iter([data]))
            reference = f"{placement.service.slug}:{placement.version}"
            name = contents.name(digest)
            yield self._image(placement, "local", reference, content=name, sha256=digest, size=len(data)), {name}


def _tree(
    registry: Registry, repository: str, blob: Blob, content: bytes, depth: int
) -> Iterator[tuple[Blob, Iterator[bytes]]]:
    """A manifest and all that it names, the smallest parts first, so that what is named is there before its name."""
    for one in children(content, blob.digest):
        if blob.media_type in INDEXES or "manifests" in json.loads(content):
            if depth == 0:
                raise StepError(f"{blob.digest} holds indexes within indexes; that is no image.", permanent=True)
            below, media_type = registry.manifest(repository, one.digest)
            yield from _tree(registry, repository, Blob(one.digest, len(below), media_type), below, depth - 1)
        else:
            yield one, registry.blob(repository, one)
    yield blob, iter([content])


def compressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same as a zstd stream with a checksum of its own."""
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    for chunk in chunks:
        if piece := compressor.compress(chunk):
            yield piece
    yield compressor.flush()


def _local_archive(placement: Placement) -> bytes:
    """The same bytes for the same version each time."""
    about = {
        "service": placement.service.slug, "version": placement.version, "digest": placement.digest,
        "note": "No container image: the local driver runs this program of the control plane as this version.",
    }  # fmt: skip
    program = (Path(django_settings.BASE_DIR) / PROGRAM).read_bytes()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in (("image.json", json.dumps(about, indent=1).encode()), (Path(PROGRAM).name, program)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()
