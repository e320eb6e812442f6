"""Who may send alerts: a source is found by the SHA-256 of its token; a body may have to be signed as well."""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from http import HTTPStatus

from controlplane.operations.errors import StepError
from environments.secrets import FAILED_SECONDS, RememberedSecrets
from incidents.models import AlertSource

# For so long a paused source, or a changed token, may not be noticed by a web process.
SOURCES_SECONDS = 1.0
LONGEST_TOKEN = 500


class Refusal(Exception):
    """The answer to a sender whose body is not taken, in words."""

    def __init__(self, status: HTTPStatus, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Source:
    """What the gate knows of a source."""

    pk: int
    slug: str
    kind: str
    paused: bool
    signing_secret: str


def digest_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


class Gate:
    """The sources of one process, looked up anew each second at most, however many strangers knock.

    All methods but `known` and `admit` may ask the database or a secret store: call them in a thread.
    """

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._looked_at = -SOURCES_SECONDS
        self._secrets = RememberedSecrets()

    @property
    def is_fresh(self) -> bool:
        """Whether `admit` may be asked without `look`."""
        return time.monotonic() - self._looked_at < SOURCES_SECONDS

    def look(self) -> None:
        """Read the sources."""
        if self.is_fresh:
            return  # another request did
        rows = AlertSource.objects.exclude(token_digest=None).exclude(kind=AlertSource.Kind.OWN)
        columns = ("token_digest", "pk", "slug", "kind", "paused", "signing_secret")
        self._sources = {digest: Source(*rest) for digest, *rest in rows.values_list(*columns)}
        self._looked_at = time.monotonic()

    def admit(self, kind: str, token: str) -> Source:
        """The source of this kind with this token. Raises Refusal."""
        source = self._sources.get(digest_of(token)) if 0 < len(token) <= LONGEST_TOKEN else None
        if source is None or source.kind != kind:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "No source of alerts has this token.", CHALLENGE)
        if source.paused:
            raise Refusal(HTTPStatus.FORBIDDEN, f"The source {source.slug} is paused; nothing of it is taken.")
        return source

    def check_signature(self, source: Source, body: bytes, given: str) -> None:
        """The body's HMAC-SHA256 in hex, with or without "sha256=". Raises Refusal."""
        wanted = hmac.new(self._secret(source).encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted.encode(), given.removeprefix("sha256=").strip().lower().encode()):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "The signature in X-Signature-256 is missing or is not the body's.")

    def _secret(self, source: Source) -> str:
        try:
            return self._secrets.get(source.signing_secret)
        except StepError as error:
            words = f"The signature cannot be checked: {error}"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, words, ASKED_AGAIN) from None


CHALLENGE = (b"www-authenticate", b'Bearer realm="alerts"')
RETRY_AFTER = (b"retry-after", b"2")
ASKED_AGAIN = (b"retry-after", str(int(FAILED_SECONDS)).encode())


def routing_key_in(body: bytes) -> str:
    """The routing_key of a PagerDuty event, which is its token. Raises Refusal when there is none to be read."""
    try:
        event = json.loads(body)
        key = event["routing_key"]
    except (ValueError, RecursionError, KeyError, TypeError):
        words = "An event is a JSON object with a routing_key."
        raise Refusal(HTTPStatus.BAD_REQUEST, words) from None
    if not isinstance(key, str):
        raise Refusal(HTTPStatus.BAD_REQUEST, "The routing_key has to be text.")
    return key
