"""What a source said of one alert, whatever form it was said in."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError

from controlplane.operations.events import storable
from incidents.models import AlertSeverity

LABELS_AT_MOST = 64
OLDEST_YEAR = 1970
LONGEST_LABEL = 2000
LONGEST_NAME = 200
LONGEST_TEXT = 500
PROBLEMS_AT_MOST = 5

# The words of Prometheus, PagerDuty and others. Unknown ones, and none at all, are a warning.
SEVERITIES = {
    "critical": AlertSeverity.CRITICAL,
    "fatal": AlertSeverity.CRITICAL,
    "error": AlertSeverity.CRITICAL,
    "page": AlertSeverity.CRITICAL,
    "warning": AlertSeverity.WARNING,
    "info": AlertSeverity.INFO,
    "none": AlertSeverity.INFO,
}


class NotUnderstood(Exception):
    """A body that says nothing that could be kept, with the reason in words; reading it again is of no use."""


@dataclass(frozen=True, slots=True)
class RawBody:
    """A stored body as its form reads it. number: of the row. at: when it was received, by the database's clock."""

    number: int
    body: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class Said:
    """It fires, or it is over. started_at: None when the form does not say, then the order of receipt counts.

    at: when it was received. known_only: what is not known already is not kept (an event that only ends something).
    acknowledges: it says nothing but that somebody has it (PagerDuty's `acknowledge`).
    The texts are as they were sent: of many messages about one alert only the last one's are kept, and made fit for it.
    """

    fingerprint: str
    firing: bool
    name: str
    at: datetime
    severity: AlertSeverity = AlertSeverity.WARNING
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    url: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    known_only: bool = False
    acknowledges: bool = False

    @property
    def environment(self) -> str:
        """The slug its labels name; "" for none."""
        return self.labels.get("environment") or self.labels.get("env") or ""


def severity_of(word: str) -> AlertSeverity:
    """The severity that a source's word stands for."""
    return SEVERITIES.get(word.strip().lower(), AlertSeverity.WARNING)


def clean(text: str, limit: int) -> str:
    """Text as it can be stored: on the safe side of what PostgreSQL takes, and of the column's length."""
    return storable(text)[:limit]


def few_enough(labels: Mapping[str, str]) -> Mapping[str, str]:
    """The labels or annotations. Raises NotUnderstood when there are too many."""
    if len(labels) > LABELS_AT_MOST:
        raise NotUnderstood(f"An alert has {len(labels)} labels or annotations; {LABELS_AT_MOST} at most are taken.")
    return labels


def clean_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels or annotations as they are kept: of what PostgreSQL takes, and none too long."""
    return {clean(name, LONGEST_NAME): clean(text, LONGEST_LABEL) for name, text in labels.items()}


def fingerprint_of(given: str, labels: Mapping[str, str]) -> str:
    """What makes an alert the same alert: the sender's own mark, or what its labels say."""
    if not given:
        given = json.dumps(sorted(labels.items()), ensure_ascii=False)
    elif len(given) <= LONGEST_MARK and given.isascii() and given.isprintable():
        return given
    return hashlib.sha256(given.encode(errors="replace")).hexdigest()


LONGEST_MARK = 64


def not_later(at: datetime | None, than: datetime) -> datetime | None:
    """A time that a sender gave; never in the future, or nothing later would count as later.

    None for one of long ago: Go writes year 1 for no time at all.
    """
    return min(at, than) if at is not None and at.year >= OLDEST_YEAR else None


def words_of(error: ValidationError) -> str:
    """What is wrong with a body, key by key."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{_path(one['loc'])}{one['msg']}" for one in problems[:PROBLEMS_AT_MOST]]
    more = len(problems) - PROBLEMS_AT_MOST
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _path(location: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return f"{text}: " if text else ""
