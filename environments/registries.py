"""Whether a registry of images still has one, by its digest: asked by HEAD (OCI distribution, "v2").

A password goes to the registry, and to whom it names for giving tokens, and nowhere else. Redirects are not followed.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urljoin, urlsplit

from controlplane.operations.errors import StepError
from environments.addresses import Answer, NoAnswer, send

SECONDS = 5.0  # for each of the three requests that it may take
HUB = "registry-1.docker.io"
HUBS = (HUB, "docker.io", "index.docker.io")  # as people spell it
HERE = ("127.0.0.1", "localhost")  # without TLS, as Docker takes them
ACCEPTED = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Login:
    """Whom to sign in as; the password itself."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """For `Authorization`."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def parts_of(repository: str) -> tuple[str, str]:
    """The registry's host and the name in it; a name without a host is one of Docker Hub."""
    first, slash, rest = repository.partition("/")
    host = host_of(first) if slash else ""
    if host and host != HUB:
        return host, rest
    name = rest if host else repository
    return HUB, name if "/" in name else f"library/{name}"


def host_of(first: str) -> str:
    """The registry that the first part of an image's name names, the same however it is spelled; "" for none."""
    host = first.lower()
    if not ("." in first or ":" in first or host == "localhost" or host != first):
        return ""
    return HUB if host in HUBS else host


def has_image(repository: str, digest: str, login: Login | None = None) -> bool:
    """Whether the registry has it. repository: an image's name without tag and digest.

    Raises StepError when it cannot be asked, for good where it does not let us in.
    """
    host, name = parts_of(repository)
    url = f"{'http' if urlsplit(f'//{host}').hostname in HERE else 'https'}://{host}/v2/{name}/manifests/{digest}"
    answer = _asked(host, "HEAD", url, {"Accept": ACCEPTED})
    if answer.status == 401:
        header = _signed_in(host, name, url, answer.headers.get("www-authenticate", ""), login)
        answer = _asked(host, "HEAD", url, {"Accept": ACCEPTED, "Authorization": header})
    if answer.status in (200, 404):
        return answer.status == 200
    if answer.status in (401, 403):
        raise _not_let_in(host, name, login)
    raise StepError(f"the registry {host} answers {answer.status} about {name}.")


def _asked(host: str, method: str, url: str, headers: Mapping[str, str]) -> Answer:
    try:
        return send(method, url, headers=headers, timeout=SECONDS)
    except NoAnswer as error:
        raise StepError(f"the registry {host} cannot be asked: {error}.") from error


def _signed_in(host: str, name: str, url: str, challenge: str, login: Login | None) -> str:
    """The header that the registry's challenge leads to. Raises StepError."""
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic" and login:
        return login.header
    asked = dict(PARAMETER.findall(rest))
    if scheme.lower() != "bearer" or "realm" not in asked:
        raise _not_let_in(host, name, login)
    realm = urljoin(url, asked["realm"])
    if url.startswith("https:") and not realm.startswith("https:"):
        raise StepError(f"the registry {host} wants our password without encryption, which is refused.", permanent=True)
    query = {"service": asked.get("service", ""), "scope": f"repository:{name}:pull"}
    where = f"{realm}{'&' if '?' in realm else '?'}{urlencode({key: value for key, value in query.items() if value})}"
    answer = _asked(host, "GET", where, {"Authorization": login.header} if login else {})
    token = str(answer.json().get("token") or answer.json().get("access_token") or "")
    if answer.status in (400, 401, 403):
        raise _not_let_in(host, name, login)
    if answer.status != 200 or not token:
        raise StepError(f"the registry {host} gives no token ({answer.status}).")
    return f"Bearer {token}"


def _not_let_in(host: str, name: str, login: Login | None) -> StepError:
    words = f"does not let {login.username} read {name}" if login else f"lets nobody read {name} without a password"
    return StepError(f"the registry {host} {words}.", permanent=True)
