"""The protocol of a load balancer: who gets requests, and what they got.

One file a kind, all of them in the dict `BALANCERS`. A driver takes an instance out before it touches it, and sees
that it is out: what was asked for and what is true differ for as long as connections drain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit


class Standing(StrEnum):
    """How a member stands with its balancer."""

    ABSENT = "absent"  # it gets nothing
    DRAINING = "draining"  # nothing new, and the last ones are not done yet
    STARTING = "starting"  # known, and not found healthy yet
    SERVING = "serving"
    UNHEALTHY = "unhealthy"
    ELSEWHERE = "elsewhere"  # known by its name, and what it gets goes to another address


@dataclass(frozen=True)
class Member:
    """One instance behind it. name: as in the configuration. host, port: where the balancer sends requests."""

    name: str
    host: str
    port: int


def member_of(name: str, address: str) -> Member | None:
    """An instance with its address as the configuration has it ("http://10.0.0.1:8000"); None for one without."""
    parts = urlsplit(address)
    return (
        Member(name, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)) if parts.hostname else None
    )


@dataclass(frozen=True)
class Seen:
    """A member as the balancer tells it. open: connections or requests that are under way, where it says so.

    weight: its share beside the others' weights; None where the balancer knows none.
    """

    standing: Standing
    words: str = ""
    open: int | None = None
    weight: int | None = None


@dataclass(frozen=True)
class Counted:
    """Requests since the balancer began to count. errors: answers of 500 and more, and those that got none.

    How long answers took: mean_ms, a mean over lately; or seconds, the sum over the `timed` ones; neither where it does
    not say.
    """

    requests: int
    errors: int
    mean_ms: float | None = None
    seconds: float = 0.0
    timed: int = 0


class Balancer(Protocol):
    """settings: what the configuration says of it ("balancer" in the driver's settings), checked by `problems`.

    All methods but `problems` ask or change the balancer over the network; they raise StepError in words,
    permanent=True where asking again would not help. Changes are idempotent.
    """

    kind: str

    def problems(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the settings, in words, by key; empty for nothing."""

    def look(self, settings: Mapping[str, Any], member: Member) -> Seen:
        """How it stands."""

    def remove(self, settings: Mapping[str, Any], member: Member) -> None:
        """Give it nothing new; what is under way may end."""

    def add(self, settings: Mapping[str, Any], member: Member) -> None:
        """Give it requests, once it is healthy."""

    def weigh(self, settings: Mapping[str, Any], weights: Mapping[Member, int]) -> None:
        """Share requests by weights from 0 to 100; at no time does nobody get any. Raises StepError without weights."""

    def counted(self, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Counted]:
        """By member's name, what each got since it began to count; those it does not know are left out."""
