"""What a recovery plan is made of: parts that plan purely, steps that observe before they act, and checks.

A part comes in phases, so that what takes long runs side by side though steps run one after the other: `begin` only
sets things going, `wait` waits for them. Nothing in `begin` lets anybody write to the new side; `open` does, and a
plan has it only behind the proof that the old side is fenced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from controlplane.operations.plans import Arguments, StepSpec
from controlplane.operations.registry import StepFunction

READY, NOT_READY, UNKNOWN = "ready", "not ready", "unknown"
NOT_KNOWN = "not known"  # the key of a candidate of which nobody knows as of when it is


@dataclass(frozen=True)
class Side:
    """One environment of a pair, as a part sees it.

    settings: what the plan says of the part, and of this side of it: {"region": …, "primary": {…}, "standby": {…}}
    gives each side its own table over what is common to both. In a call, "source" is the side that serves people
    (or did until now), "target" the one that takes over.
    """

    environment: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """One thing that has to hold for a failover to succeed, and whether it does. words: why, and what helps."""

    key: str
    title: str
    outcome: str
    words: str


@dataclass(frozen=True)
class Candidate:
    """Something the database could come back from. key: unique among them ("snapshot:rds:pitchey-2026-11-28").

    as_of: everything committed until then is in it. arguments: what the steps need to find it again.
    """

    key: str
    title: str
    as_of: datetime
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The steps of one part of a plan, by phase, each phase in order.

    begin: set it going; nothing it does lets anybody write to the new side. wait: until that has come about.
    open: let people use it; only behind a proven fence. verify: is it good? cleanup: take everything away again; it
    is there for drills, runs in every case, and finds what is not there to be gone already.
    recovery: steps named by `on_failure` of the others.
    changes: rows {"what", "from", "to"} for those who approve.
    """

    begin: tuple[StepSpec, ...] = ()
    wait: tuple[StepSpec, ...] = ()
    open: tuple[StepSpec, ...] = ()
    verify: tuple[StepSpec, ...] = ()
    cleanup: tuple[StepSpec, ...] = ()
    recovery: tuple[StepSpec, ...] = ()
    changes: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Fence:
    """How the old side is kept from writing. act: each tries; a side that cannot be reached is said, not a failure.

    prove: each observes that the fence holds. It raises `Unknown` when that cannot be seen, and then a named person
    has to accept the risk in words before the plan goes on.
    """

    act: tuple[StepSpec, ...] = ()
    prove: tuple[StepSpec, ...] = ()


class Database(Protocol):
    """One file in `databases/`, in the dict `DATABASES`. All but `candidates` and `readiness` is pure."""

    kind: str
    # Step functions by full name, "<kind>.<step>".
    steps: Mapping[str, StepFunction]

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `database`, in words, by key; empty for nothing."""

    def candidates(self, source: Side, target: Side) -> list[Candidate]:
        """What could be restored at the target now, the newest first. Raises StepError when nothing can be asked."""

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Could it be done now? Never raises: what cannot be asked is `unknown`."""

    def fence(self, source: Side) -> Fence:
        """Keep everybody from writing to the source's database."""

    def restore(self, source: Side, target: Side, candidate: Candidate, *, scratch: str = "") -> Part:
        """Bring the database up at the target. scratch: a drill's name for an isolated one; "" for the real one."""

    def reverse(self, source: Side, target: Side) -> Part:
        """For the way back: make the target follow what the source has, until nothing is missing; rows compared."""

    def newest(self, side: Side) -> Candidate:
        """As of when the newest row is that the side's database has; its key is NOT_KNOWN where it answers and cannot
        say. Raises StepError when it does not answer.
        """


class Traffic(Protocol):
    """How people are sent to one side: one file in `traffic/`, in the dict `TRAFFIC`."""

    kind: str
    steps: Mapping[str, StepFunction]

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `traffic`, in words, by key."""

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Could it be switched now (permissions, TTL)? Never raises."""

    def withdraw(self, source: Side) -> Fence:
        """Take the old side out, as a part of the fence; empty where the switch itself does it."""

    def switch(self, source: Side, target: Side, *, drill: str = "") -> Part:
        """Send people to the target. drill: a name of its own instead of the public one."""


@runtime_checkable
class Returning(Protocol):
    """What a database may offer besides: people are let back in where they were, when their way home fails behind its
    fence. Nobody was sent to the target yet.
    """

    def give_back(self, source: Side, target: Side) -> tuple[StepSpec, ...]:
        """Close the target again, if this operation opened it, and let people into the source as before. Each step
        observes, and what was never changed is left as it is.
        """


@runtime_checkable
class Reachable(Protocol):
    """What a traffic driver may offer besides, where only it knows under which address people find a side."""

    def outside(self, target: Side, drill: str) -> str:
        """The URL to ask from outside after the switch. drill: the name of a drill, "" for the public one."""


class Uploads(Protocol):
    """A bucket or folder of files that both sides have: one file in `uploads/`, in the dict `UPLOADS`."""

    kind: str
    steps: Mapping[str, StepFunction]

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a plan's `uploads`, in words, by key."""

    def readiness(self, source: Side, target: Side) -> list[Check]:
        """Is it replicated, and how far behind? Never raises."""

    def mend(self, source: Side, target: Side) -> Part:
        """Compare the listings and bring over what is missing, as far as the source can be read."""
