"""Asking a Prometheus server through its HTTP API: one expression, the series that it has now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from controlplane.operations.masking import Masker
from environments.addresses import send
from environments.secrets import token_of

TIMEOUT_SECONDS = 3.0
# What Prometheus may take to think; less than we wait.
ITS_TIMEOUT = "2500ms"


class Unusable(Exception):
    """The server gave no answer that could be read; the text says why."""


@dataclass(frozen=True)
class Series:
    """One series: its labels, and its value now (perhaps not finite)."""

    labels: Mapping[str, str]
    value: float


def credentials(reference: str) -> dict[str, str]:
    """The header with the token behind a secret reference; none for "". Raises StepError where there is none."""
    return {"Authorization": f"Bearer {token_of(reference)}"} if reference else {}


def ask(base: str, expression: str, headers: Mapping[str, str]) -> list[Series]:
    """The series of an expression. base: the address of the server, without /api. Raises NoAnswer, Unusable."""
    question = urlencode({"query": expression, "timeout": ITS_TIMEOUT})
    url = f"{base.rstrip('/')}/api/v1/query?{question}"
    answer = send("GET", url, headers=headers, timeout=TIMEOUT_SECONDS)
    token = headers.get("Authorization", "").partition(" ")[2]
    return _series(answer.status, answer.json(), Masker([token] if token else []))


def _series(status: int, body: Mapping[str, Any], masker: Masker) -> list[Series]:
    if status in (401, 403):
        raise Unusable(f"answered {status}: it wants another token (PROMETHEUS_TOKEN)")
    if body.get("status") != "success":
        said = body.get("error")
        raise Unusable(f"answered {status}: {masker.mask(said)}" if isinstance(said, str) else f"answered {status}")
    try:
        return [
            Series({str(key): str(value) for key, value in one["metric"].items()}, float(one["value"][1]))
            for one in body["data"]["result"]
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Unusable("answered something else than a list of series") from None
