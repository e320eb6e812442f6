"""What is asked of a cluster's API server, as plain objects, and what goes wrong in words.

lightkube's typed client leaves out what it does not know of an object, does not heed `Retry-After`, and watches without
an end; so its HTTP client is used, and the little that is needed is here. A change is sent once: who got no answer
looks before sending it again. Whoever answers, a proxy in between too, may quote our token: no error says it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2

from controlplane.operations.errors import StepError
from controlplane.operations.masking import hidden_in_errors
from environments.drivers.kubernetes.access import Connected, connect_to

MANAGER = "controlplane"
# Replicas are given by a manager of their own: leaving them out of an apply by the first would set them to 1.
# So are marks that are set without anything else: an apply by one of the others would give up what it left out.
COUNTING, MAKING, MARKING = "controlplane-count", "controlplane-make", "controlplane-mark"
OURS = frozenset({MANAGER, COUNTING, MAKING, MARKING})
APPLY, JSON_PATCH = "application/apply-patch+yaml", "application/json-patch+json"
ASKED_AGAIN = 3
LONGEST_PAUSE = 10.0
PAGE = 200

Object = dict[str, Any]
Pause = Callable[[float], None]


class NotThere(StepError):
    """404."""


class Gone(StepError):
    """410: the resource version is too old to watch from."""


class Changed(StepError):
    """409: the object is not the one that was read, or is there already."""


@dataclass(frozen=True)
class Claim:
    """A field that somebody else manages."""

    field: str
    manager: str


class Claimed(StepError):
    """409: fields that others manage would change."""

    def __init__(self, claims: list[Claim], where: str) -> None:
        said = ", ".join(f"{one.field} is managed by {one.manager}" for one in claims)
        words = f"{where} is not changed: {said}. Let them give it up, or set force in the driver settings."
        super().__init__(words, permanent=True)
        self.claims = claims


KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{namespace}/replicasets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Event": "/api/v1/namespaces/{namespace}/events",
}


class Api:
    """A namespace of a cluster, for a block. pause: waits so many seconds, and raises where one may not go on."""

    def __init__(self, connected: Connected, namespace: str, pause: Pause) -> None:
        self._connected, self._namespace, self._pause = connected, namespace, pause

    @classmethod
    def at(cls, place: Mapping[str, Any], pause: Pause = time.sleep) -> "Api":
        """The place of a step. Raises StepError."""
        return cls(connect_to(place["access"], place["answer_seconds"]), place["namespace"], pause)

    def __enter__(self) -> "Api":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connected.client.close()

    @property
    def secrets(self) -> tuple[str, ...]:
        """To be masked."""
        return self._connected.secrets

    def find(self, kind: str, name: str) -> Object | None:
        """An object; None where there is none."""
        try:
            return self._ask("GET", kind, name).json_object()
        except NotThere:
            return None

    def listed(self, kind: str, **selectors: str) -> list[Object]:
        """All objects that match (labelSelector, fieldSelector), page by page; once anew if the pages grow too old."""
        found: list[Object] = []
        params = {**selectors, "limit": str(PAGE)}
        anew = True
        while True:
            try:
                answer = self._ask("GET", kind, "", params=params).json_object()
            except Gone:
                if "continue" not in params or not anew:
                    raise
                found, anew = [], False
                del params["continue"]
                continue
            found += answer.get("items") or []
            if not (token := (answer.get("metadata") or {}).get("continue")):
                return found
            params["continue"] = token

    def create(self, document: Object) -> Object:
        """Make it. Raises Changed when it is there already."""
        params = {"fieldManager": MAKING}
        return self._ask("POST", document["kind"], "", params=params, body=document).json_object()

    def apply(self, document: Object, *, force: bool = False, manager: str = MANAGER) -> Object:
        """Server-side apply. Fields that only our own managers hold are taken over. Raises Claimed, Changed.

        A document with a resource version is refused (Changed) when the object was changed since.
        """
        kind, name = document["kind"], document["metadata"]["name"]
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        try:
            return self._ask("PATCH", kind, name, params=params, body=document, content=APPLY).json_object()
        except Claimed as error:
            if any(claim.manager not in OURS for claim in error.claims):
                raise
            params["force"] = "true"
            return self._ask("PATCH", kind, name, params=params, body=document, content=APPLY).json_object()

    def let_go(self, found: Object) -> Object:
        """Have whoever made it hold nothing of it any more, and return it. Raises Changed when it was changed since.

        A field that its maker still holds, and we no longer apply, would stay for ever; so would what was filled in.
        """
        entries = found["metadata"].get("managedFields") or []
        rest = [one for one in entries if one.get("manager") != MAKING]
        return found if len(rest) == len(entries) else self.manage(found, rest)

    def manage(self, found: Object, entries: list[Object]) -> Object:
        """Write down who manages which of its fields, and change nothing else. Raises Changed."""
        meta = found["metadata"]
        body = [
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
        ]
        params = {"fieldManager": MAKING}
        answer = self._ask("PATCH", found["kind"], meta["name"], params=params, body=body, content=JSON_PATCH)
        return answer.json_object()

    def delete(self, found: Object) -> None:
        """Delete this very object and its pods. Raises Changed when it is not the one that was read."""
        meta = found["metadata"]
        conditions = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
                "preconditions": conditions}  # fmt: skip
        self._ask("DELETE", found["kind"], meta["name"], body=body)

    def log(self, pod: str, container: str, lines: int, *, previous: bool) -> list[str]:
        """The end of a container's log; of the one before it, if previous."""
        params = {"container": container, "tailLines": str(lines), "limitBytes": "16384"}
        if previous:
            params["previous"] = "true"
        return self._ask("GET", "Pod", f"{pod}/log", params=params).text.splitlines()[-lines:]

    def news(self, kind: str, name: str, version: str, seconds: float) -> tuple[bool, str]:
        """Watch one object until it changes, at most so long. Whether it did, and the version to go on from.

        A bookmark is no change: it names a version that is newer than the object's. Raises Gone, StepError.
        """
        params = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version,
            "fieldSelector": f"metadata.name={name}", "timeoutSeconds": str(max(1, round(seconds))),
        }  # fmt: skip
        where = f"{kind} {name}"
        until = time.monotonic() + seconds
        timeout = httpx2.Timeout(self._connected.client.timeout.connect, read=max(0.05, seconds))
        client = self._connected.client
        try:
            with (
                hidden_in_errors(self.secrets),
                client.stream("GET", self._path(kind, ""), params=params, timeout=timeout) as response,
            ):
                if response.status_code != 200:
                    response.read()
                    raise _error(response, where)
                for line in response.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _refusal(event["object"], where)
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK" or time.monotonic() > until:
                        return event["type"] != "BOOKMARK", version
        except httpx2.ReadTimeout:
            return False, version
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise StepError(f"The watch of {where} broke off: {type(error).__name__}.") from error
        return False, version

    def _path(self, kind: str, name: str) -> str:
        base = KINDS[kind].format(namespace=self._namespace)
        return f"{base}/{name}" if name else base

    def _ask(
        self, method: str, kind: str, name: str, *, params: Mapping[str, str] | None = None,
        body: Object | list[Object] | None = None, content: str = "application/json",
    ) -> "_Answer":  # fmt: skip
        """One request. 429 and 503 with `Retry-After` were not carried out, so they are sent again after it."""
        said = body.get("metadata", {}) if isinstance(body, dict) else {}
        where = f"{kind} {name or said.get('name', '')}".strip()
        headers = {"Content-Type": content} if body is not None else {}
        for attempt in range(1, ASKED_AGAIN + 1):
            with hidden_in_errors(self.secrets), _in_words(where):
                response = self._connected.client.request(
                    method, self._path(kind, name), params=dict(params or {}), headers=headers,
                    content=json.dumps(body).encode() if body is not None else None,
                )  # fmt: skip
            after = response.headers.get("Retry-After", "")
            if response.status_code not in (429, 503) or not after.isdigit() or attempt == ASKED_AGAIN:
                break
            self._pause(min(float(after), LONGEST_PAUSE))
        if not response.is_success:
            with hidden_in_errors(self.secrets):
                raise _error(response, where)
        return _Answer(response)


@dataclass(frozen=True)
class _Answer:
    response: httpx2.Response

    @property
    def text(self) -> str:
        return self.response.text

    def json_object(self) -> Object:
        """Raises StepError when it is none."""
        try:
            content = self.response.json()
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise StepError("The API server's answer is no object.")
        return content


@contextmanager
def _in_words(where: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        raise StepError(f"The API server did not answer in time for {where}.") from error
    except httpx2.LocalProtocolError:
        # Its text, and that of its cause, repeat the header.
        raise StepError(
            f"The API server cannot be asked for {where}: its token cannot be sent.", permanent=True
        ) from None
    except httpx2.HTTPError as error:
        raise StepError(f"The API server does not answer for {where}: {str(error) or type(error).__name__}.") from error


def _error(response: httpx2.Response, where: str) -> StepError:
    try:
        status = response.json()
    except (ValueError, RecursionError):
        status = None
    content = status if isinstance(status, dict) else {}
    return _refusal({"code": response.status_code, **content}, where)


def _refusal(status: Mapping[str, Any], where: str) -> StepError:
    code = int(status.get("code") or 0)
    # What the server says of a Secret may quote it.
    said = str(status.get("reason") or code) if where.startswith("Secret") else str(status.get("message") or code)
    if code == 401:
        return StepError(f"The API server does not accept our credentials for {where} (401).")
    if code == 403:
        return StepError(f"The cluster does not allow it for {where}: {said}", permanent=True)
    if code == 404:
        return NotThere(f"There is no {where}.", permanent=True)
    if code == 409:
        return _conflict(status, where, said)
    if code == 410:
        return Gone(f"{where}: the resource version is too old.")
    passing = code == 429 or code >= 500
    return StepError(f"The API server refuses {where}: {said}", permanent=not passing)


def _conflict(status: Mapping[str, Any], where: str, said: str) -> StepError:
    causes = (status.get("details") or {}).get("causes") or []
    claims = [
        Claim(str(one.get("field", "")).lstrip("."), _manager_in(str(one.get("message", ""))))
        for one in causes
        if one.get("reason") == "FieldManagerConflict"
    ]
    return Claimed(claims, where) if claims else Changed(f"{where} was changed by somebody else meanwhile: {said}")


def _manager_in(message: str) -> str:
    """`conflict with "kubectl" using apps/v1` → kubectl."""
    parts = message.split('"')
    return parts[1] if len(parts) > 2 else message
