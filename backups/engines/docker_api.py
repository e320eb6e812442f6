"""Reading images from a docker host by its HTTP API: looked at by digest, and saved as `docker save` does it."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from backups.engines.contents import PIECE
from backups.engines.image_tar import ImageTar
from controlplane.operations.errors import StepError
from environments.addresses import NoAnswer, connection_to, problem_with

# To put a large image together takes its time before the first byte comes.
ANSWER_SECONDS = 300.0
UNIX = re.compile(r"unix://(/.+)")
TCP = re.compile(r"tcp://([^/]+)/?")
LONGEST_ANSWER = 4 * 1024 * 1024


def problem_with_host(host: Any) -> str:
    """What is wrong with the address of a docker host, in words; "" when nothing is."""
    if not isinstance(host, str) or not (UNIX.fullmatch(host) or TCP.fullmatch(host)):
        return "has to be unix:///path or tcp://host:port"
    found = TCP.fullmatch(host)
    return problem_with(f"http://{found[1]}") if found else ""


class Docker:
    """One docker host. Raises StepError."""

    def __init__(self, host: str) -> None:
        self._host = host

    def look(self, repository: str, version: str, digest: str) -> tuple[str, str]:
        """The name to save the image by, and its id. Raises StepError when the host has no image of that digest."""
        with self._get(f"/images/{quote(f'{repository}@{digest}', safe='/:@')}/json") as answer:
            if answer.status == 404:
                words = f"The docker host {self._host} has no {repository}@{digest}. Pull it there, then try again."
                raise StepError(words, permanent=True)
            self._fine(answer)
            said = _object(answer.read(LONGEST_ANSWER))
        if not any(str(one).endswith(f"@{digest}") for one in said.get("RepoDigests") or []):
            raise StepError(f"The docker host {self._host} shows an image without {digest}.", permanent=True)
        tags = [str(one) for one in said.get("RepoTags") or [] if str(one).rpartition(":")[0] == repository]
        name = f"{repository}:{version}" if f"{repository}:{version}" in tags else ([*tags, ""])[0]
        return name or f"{repository}@{digest}", str(said.get("Id", ""))

    def save(self, name: str, identities: tuple[str, ...]) -> Iterator[bytes]:
        """The image as a tar that `docker load` takes.

        identities: digests of which the tar has to name one, since a tag may have moved since `look`. A docker host
        that fails midway writes its error into the tar and ends it properly, so the tar itself is watched.
        """
        watch = ImageTar(f"what the docker host {self._host} gives for {name}")
        with self._get(f"/images/{quote(name, safe='/:@')}/get") as answer:
            self._fine(answer)
            while chunk := answer.read(PIECE):
                watch.feed(chunk)
                yield chunk
        said = watch.end()
        if not any(identity.removeprefix("sha256:").encode() in said for identity in identities if identity):
            raise StepError(f"{name} became another image while it was saved. Try again.")

    def _fine(self, answer: http.client.HTTPResponse) -> None:
        if answer.status != 200:
            said = _object(answer.read(LONGEST_ANSWER)).get("message", "")
            words = f"The docker host {self._host} answers {answer.status}: {said}"
            raise StepError(words, permanent=answer.status < 500)

    @contextmanager
    def _get(self, path: str) -> Iterator[http.client.HTTPResponse]:
        try:
            connection = self._connection()
            try:
                connection.request("GET", path, headers={"Host": "docker", "Connection": "close"})
                with connection.getresponse() as answer:
                    yield answer
            finally:
                connection.close()
        except (NoAnswer, OSError, http.client.HTTPException) as error:
            said = str(error) or type(error).__name__
            raise StepError(f"The docker host {self._host} cannot be reached, or was cut off: {said}") from error

    def _connection(self) -> http.client.HTTPConnection:
        if found := UNIX.fullmatch(self._host):
            return _UnixConnection(found[1])
        found = TCP.fullmatch(self._host)
        return connection_to(f"http://{found[1] if found else ''}", ANSWER_SECONDS)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """To a socket of this machine."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(self._path)


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
