"""Reading from a registry of images by its HTTP API (OCI distribution, "v2"): manifests and blobs, by digest only.

What comes is never believed: each manifest and each blob has to have the SHA-256 and the size that what names it says.
A blob whose connection is cut is taken up where it was. Passwords and tokens go to the registry, and to whom it names
for giving tokens, and never to where it redirects to.
"""

import base64
import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from backups.engines.base import Hand
from backups.engines.contents import PIECE
from controlplane.operations.errors import StepError
from environments.addresses import NoAnswer, connection_to
from environments.secrets import resolve, token_of

ANSWER_SECONDS = 30.0
TRIES = 5
LONGEST_WAIT = 60.0
HOPS = 6
MANIFEST_BYTES = 4 * 1024 * 1024  # what registries have to accept at least, and all of them limit
REDIRECTS = frozenset({301, 302, 303, 307, 308})
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Blob:
    """What a manifest names: itself, another manifest, a configuration or a layer."""

    digest: str
    size: int
    media_type: str

    @property
    def hex(self) -> str:
        """The digest without its algorithm."""
        return self.digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Credentials:
    """username: as it is. password, token: secret references; "" for none."""

    username: str = ""
    password: str = ""
    token: str = ""


class Passing(StepError):
    """It may work in a moment. wait: seconds that the registry asks for."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


def children(content: bytes, digest: str) -> list[Blob]:
    """What a manifest, or an index of manifests, names. Raises StepError for what is neither."""
    try:
        manifest = json.loads(content)
        named = manifest["manifests"] if "manifests" in manifest else [manifest["config"], *manifest["layers"]]
        found = [Blob(str(one["digest"]), int(one["size"]), str(one.get("mediaType", ""))) for one in named]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StepError(f"{digest} is no manifest of an image that this version can read.", permanent=True) from error
    for blob in found:
        if not DIGEST.fullmatch(blob.digest) or blob.size < 0:
            raise StepError(f"{digest} names {blob.digest}, whose kind of digest is not known.", permanent=True)
    return found


class Registry:
    """One registry. url: "https://registry.example.com". Raises StepError."""

    def __init__(self, url: str, credentials: Credentials, hand: Hand) -> None:
        self._url = url.rstrip("/")
        self._hand = hand
        self._username = credentials.username
        self._password = resolve(credentials.password) if credentials.password else ""
        token = token_of(credentials.token) if credentials.token else ""
        hand.mask(*filter(None, (self._password, token)))
        self._fixed = f"Bearer {token}" if token else ""
        self._given: dict[str, str] = {}  # the header Authorization, by repository

    @property
    def host(self) -> str:
        """As it stands in the names of images."""
        return urlsplit(self._url).netloc

    def manifest(self, repository: str, digest: str) -> tuple[bytes, str]:
        """A manifest or an index, and its media type."""
        path = f"/v2/{repository}/manifests/{digest}"
        for attempt in range(1, TRIES + 1):
            try:
                with self._open(repository, path, {"Accept": ", ".join((*INDEXES, *MANIFESTS))}) as answer:
                    content = answer.read(MANIFEST_BYTES + 1)
                    whole = len(content) == int(answer.headers.get("Content-Length", len(content)))
                    media_type = answer.headers.get_content_type()
                if not whole and len(content) <= MANIFEST_BYTES:
                    raise Passing(f"{self.host} cut off its answer about {repository}")
                if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
                    words = f"{self.host} answers with something else than {digest} for {repository}."
                    raise StepError(words, permanent=True)
                return content, media_type
            except Passing as error:
                self._wait(attempt, error)
        raise AssertionError("unreachable")

    def blob(self, repository: str, blob: Blob) -> Iterator[bytes]:
        """The bytes of a blob. Raises StepError, at the latest at its end, when they are not what its digest says."""
        seen, done, attempt = hashlib.sha256(), 0, 1
        path = f"/v2/{repository}/blobs/{blob.digest}"
        while True:
            before = done
            try:
                for chunk in self._rest(repository, path, done):
                    done += len(chunk)
                    if done > blob.size:
                        raise StepError(f"{self.host} gives more than the {blob.size} bytes of {blob.digest}.",
                                        permanent=True)  # fmt: skip
                    seen.update(chunk)
                    yield chunk
                if done == blob.size:
                    break
                raise Passing(f"{self.host} ended {blob.digest} after {done} of {blob.size} bytes")
            except Passing as error:
                attempt = 1 if done > before else attempt
                self._wait(attempt, error)
                attempt += 1
        if seen.hexdigest() != blob.hex:
            raise StepError(f"{self.host} gives other bytes than those of {blob.digest}.", permanent=True)

    def _rest(self, repository: str, path: str, start: int) -> Iterator[bytes]:
        with self._open(repository, path, {"Range": f"bytes={start}-"} if start else {}) as answer:
            skip = start
            if answer.status == 206:
                if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    raise StepError(f"{self.host} answers with another part than it was asked for.", permanent=True)
                skip = 0
            while chunk := answer.read(PIECE):
                rest = chunk[skip:]
                skip -= len(chunk) - len(rest)
                if rest:
                    yield rest

    def _wait(self, attempt: int, error: Passing) -> None:
        """Raises the error when it has been tried often enough."""
        if attempt >= TRIES:
            raise error
        self._hand.log(f"{error}; trying again", level="warning")
        self._hand.wait(min(LONGEST_WAIT, max(error.wait, 0.25 * 2**attempt)))

    @contextmanager
    def _open(self, repository: str, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """An answer that is one; whatever goes wrong with the connection, also while it is read, is Passing."""
        try:
            with self._answer(repository, self._url + path, headers) as answer:
                yield answer
        except NoAnswer as error:
            raise Passing(f"{self.host} cannot be asked: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            said = str(error) or type(error).__name__
            raise Passing(f"{self.host} was cut off: {said}") from error

    @contextmanager
    def _answer(self, repository: str, url: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Signs in when it is asked to, and goes where it is sent."""
        asked = False
        for _ in range(HOPS):
            own = urlsplit(url).netloc == self.host
            authorization = (self._fixed or self._given.get(repository, "")) if own else ""
            sent = {**headers, "Authorization": authorization} if authorization else headers
            with _asked(url, sent) as answer:
                if answer.status in (200, 206):
                    yield answer
                    return
                if answer.status == 401 and own and not asked and not self._fixed:
                    asked = True
                    self._sign_in(repository, answer.headers.get("WWW-Authenticate", ""))
                elif answer.status in REDIRECTS:
                    url = self._further(url, answer.headers.get("Location", ""))
                else:
                    raise self._refusal(answer, repository)
        raise StepError(f"{self.host} sends us around in a circle.", permanent=True)

    def _further(self, url: str, location: str) -> str:
        further = urljoin(url, location)
        if urlsplit(url).scheme == "https" and urlsplit(further).scheme != "https":
            raise StepError(
                f"{self.host} redirects to an address without encryption, which is refused.", permanent=True
            )
        return further

    def _sign_in(self, repository: str, challenge: str) -> None:
        scheme, _, rest = challenge.partition(" ")
        basic = base64.b64encode(f"{self._username}:{self._password}".encode()).decode()
        if scheme.lower() == "basic" and self._username:
            self._given[repository] = f"Basic {basic}"
            return
        asked = dict(PARAMETER.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in asked:
            words = f"{self.host} wants a user for {repository}. Name username and password in the policy's settings."
            raise StepError(words, permanent=True)
        query = {"service": asked.get("service", ""), "scope": asked.get("scope") or f"repository:{repository}:pull"}
        realm = self._further(self._url, asked["realm"])
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode({key: value for key, value in query.items() if value})}"
        with _asked(url, {"Authorization": f"Basic {basic}"} if self._username else {}) as answer:
            if answer.status != 200:
                raise self._refusal(answer, repository)
            token = _token_in(answer.read(MANIFEST_BYTES))
        if not token:
            raise StepError(f"{self.host} names a place for tokens that gives none.", permanent=True)
        self._hand.mask(token)
        self._given[repository] = f"Bearer {token}"

    def _refusal(self, answer: http.client.HTTPResponse, repository: str) -> StepError:
        if answer.status == 429 or answer.status >= 500:
            wait = answer.headers.get("Retry-After", "")
            words = "slows us down" if answer.status == 429 else "has trouble of its own"
            return Passing(f"{self.host} {words} ({answer.status})", float(wait) if wait.isdecimal() else 0.0)
        if answer.status in (401, 403):
            self._given.pop(repository, None)
            words = f"{self.host} does not let us read {repository} ({answer.status}). Check username, password, token."
            return StepError(words, permanent=True)
        if answer.status == 404:
            words = f"{self.host} does not have it in {repository}. Check repositories in the policy's settings."
            return StepError(words, permanent=True)
        return StepError(f"{self.host} answers {answer.status} about {repository}.", permanent=True)


@contextmanager
def _asked(url: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    """The answer to one GET."""
    parts = urlsplit(url)
    connection = connection_to(url, ANSWER_SECONDS)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "controlplane", "Connection": "close", **headers})
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


def _token_in(body: bytes) -> str:
    try:
        said: Any = json.loads(body)
        return str(said.get("token") or said.get("access_token") or "")
    except (ValueError, AttributeError):
        return ""
