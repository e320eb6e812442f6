"""Calls of GitHub's API about deployments, with a token or as an App; what fails says whether trying again helps."""

import json
import threading
import time
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from controlplane.operations.errors import StepError
from controlplane.operations.masking import Masker
from deployments.models import CommitNotice, Pipeline
from environments.addresses import Answer, NoAnswer, send
from environments.secrets import resolve, token_of

TIMEOUT_SECONDS = 8.0
LONGEST_DESCRIPTION = 140  # GitHub's
LOOKED_AT = 10  # deployments of one commit and environment, and statuses of one deployment
LONGEST_WAIT = 3600.0
APP_TOKEN_SECONDS = 540  # GitHub takes ten minutes at most
SPARE_SECONDS = 120.0
VERSION = "2022-11-28"


class GitHubError(Exception):
    """It was not told; in words without a secret. permanent: trying again will not help. wait: seconds, if it says."""

    def __init__(self, words: str, *, permanent: bool = False, wait: float = 0.0) -> None:
        super().__init__(words)
        self.permanent = permanent
        self.wait = wait


class Tokens:
    """Installation tokens of Apps, in memory until they expire."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[float, str]] = {}
        self._lock = threading.Lock()

    def of(self, status: dict[str, str]) -> str:
        """The token to send. Raises GitHubError."""
        try:
            if "token" in status:
                return token_of(status["token"])
            return self._installation(status)
        except StepError as error:
            raise GitHubError(str(error)) from error

    def _installation(self, status: dict[str, str]) -> str:
        about = (status["api"], status["app_id"], status["installation_id"], status["private_key"])
        with self._lock:
            until, token = self._known.get(about, (float("-inf"), ""))
            if time.monotonic() < until:
                return token
            path = f"/app/installations/{quote(status['installation_id'], safe='')}/access_tokens"
            told = _ask("POST", status["api"] + path, _app_token(status), {})
            token, lasts = _installation_token(told)
            self._known[about] = (time.monotonic() + lasts - SPARE_SECONDS, token)
            return token

    def forget(self, token: str) -> None:
        """It was refused: ask for another one next time."""
        with self._lock:
            self._known = {about: kept for about, kept in self._known.items() if kept[1] != token}


def _app_token(status: dict[str, str]) -> str:
    """Signed with the App's key, good for some minutes."""
    try:
        key = RSAKey.import_key(resolve(status["private_key"]))
        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + APP_TOKEN_SECONDS, "iss": status["app_id"]}
        return jwt.encode({"alg": "RS256", "typ": "JWT"}, claims, key)
    except (JoseError, ValueError, TypeError) as error:
        raise GitHubError(f"The secret {status['private_key']} is no RSA key in PEM.") from error


def _installation_token(told: Any) -> tuple[str, float]:
    try:
        token, expires_at = str(told["token"]), datetime.fromisoformat(told["expires_at"])
        return token, max(0.0, expires_at.timestamp() - time.time())
    except (KeyError, TypeError, ValueError) as error:
        raise GitHubError("GitHub gave the App no token.") from error


tokens = Tokens()


class GitHub:
    """The repository of a pipeline. until: by time.monotonic(); nothing leaves later."""

    def __init__(self, pipeline: Pipeline, until: float) -> None:
        self._status = pipeline.status
        self._base = f"{pipeline.status['api']}/repos/{quote(pipeline.repository)}/deployments"
        self._until = until

    def find(self, notice: CommitNotice) -> str:
        """The number of the deployment that an earlier try made, "" for none."""
        query = {"sha": notice.sha, "environment": notice.environment, "task": "deploy", "per_page": LOOKED_AT}
        for one in self._list(f"{self._base}?{urlencode(query)}"):
            if _payload(one) == payload_of(notice):
                return str(one.get("id", ""))
        return ""

    def make(self, notice: CommitNotice) -> str:
        """Make the deployment; returns its number there."""
        body = {
            "ref": notice.sha, "environment": notice.environment, "task": "deploy", "auto_merge": False,
            "required_contexts": [], "description": notice.operation.title[:LONGEST_DESCRIPTION],
            "payload": payload_of(notice),
        }  # fmt: skip
        told = self._send("POST", self._base, body)
        if not isinstance(told, dict) or not told.get("id"):
            raise GitHubError("GitHub did not say which deployment it made.")
        return str(told["id"])

    def newest(self, remote: str) -> str:
        """The state that was told last, "" for none."""
        statuses = self._list(f"{self._base}/{quote(remote)}/statuses?per_page={LOOKED_AT}")
        return str(max(statuses, key=lambda one: one.get("id", 0), default={}).get("state", ""))

    def tell(self, remote: str, state: str, notice: CommitNotice) -> None:
        """Say how it stands, with the address of the log."""
        words = f"{notice.operation.get_state_display()}"
        body = {"state": state, "description": words[:LONGEST_DESCRIPTION], "log_url": log_url(notice)}
        self._send("POST", f"{self._base}/{quote(remote)}/statuses", body)

    def _list(self, url: str) -> list[dict[str, Any]]:
        told = self._send("GET", url)
        return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []

    def _send(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        return _ask(method, url, tokens.of(self._status), body, until=self._until)


def log_url(notice: CommitNotice) -> str:
    """Where people follow the operation."""
    return f"{settings.SITE_URL}{notice.operation.get_absolute_url()}"


def payload_of(notice: CommitNotice) -> dict[str, Any]:
    """What the deployment there keeps of ours, by which it is found again."""
    return {"controlplane": settings.SITE_URL, "operation": notice.operation_id}


def _payload(told: dict[str, Any]) -> Any:
    payload = told.get("payload")
    if isinstance(payload, str):
        try:
            return json.loads(payload)
        except ValueError:
            return None
    return payload


def _ask(method: str, url: str, token: str, body: dict[str, Any] | None, until: float = float("inf")) -> Any:
    headers = {
        "Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": VERSION,
        "User-Agent": "controlplane", "Content-Type": "application/json",
    }  # fmt: skip
    data = None if body is None else json.dumps(body).encode()
    try:
        answer = send(method, url, data, headers, TIMEOUT_SECONDS, until=until)
    except NoAnswer as error:
        raise GitHubError(f"GitHub cannot be reached: {error}") from error
    if not 200 <= answer.status < 300:
        if answer.status == 401:
            tokens.forget(token)
        why = Masker([token]).mask(str(answer.json().get("message", "")))[:150]
        words = f"GitHub answered {answer.status}{f': {why}' if why else ''}"
        raise GitHubError(words, permanent=answer.status == 422, wait=_wait(answer))
    try:
        return json.loads(answer.body or b"null")
    except (ValueError, RecursionError) as error:
        raise GitHubError("GitHub's answer cannot be read.") from error


def _wait(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), LONGEST_WAIT) if text.isdecimal() else 0.0
