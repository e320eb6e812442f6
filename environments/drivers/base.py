"""The protocol of a driver: how to talk to a place where software runs.

A driver is one file: what runs now, what a rollout would do (pure), and the functions of its steps, which it
names "<driver>.<step>". Everything a step needs to know stands in its arguments, so that the plan people
approve is the whole truth and a changed setting changes the digest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from controlplane.operations.plans import Arguments, StepSpec
from controlplane.operations.registry import StepFunction


@dataclass(frozen=True)
class Instance:
    """One place a service runs at. address: base URL, "" where only the whole service has one."""

    name: str
    address: str = ""


@dataclass(frozen=True)
class Target:
    """A service in an environment, as a driver sees it. settings: the environment's, then the placement's.

    beside: where it was narrowed to some of its instances, the others that may run meanwhile. A rollout leaves them
    alone; a driver that limits how many may be away at once counts them.

    deployed: the digest of what was deployed there, or adopted; "" where none is known.
    left: see `Leaving`; empty where nothing is remembered.
    """

    environment: str
    service: str
    instances: tuple[Instance, ...]
    url: str
    health_path: str
    settings: Mapping[str, Any]
    beside: tuple[Instance, ...] = ()
    deployed: str = ""
    left: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Software:
    """A release as drivers need it. digest: "sha256:…" of the image; "" where none is known."""

    version: str
    image: str
    digest: str


@dataclass(frozen=True)
class Running:
    """What runs at one instance now. version "": nothing runs.

    address: where it answers, where that is not the instance's address any more; else "". stranger: the id of what has
    the instance's name there and was not started by the control plane, running or not; only a plan that names it may
    remove it.
    """

    instance: str
    version: str
    digest: str
    image: str = ""
    # What the driver must remember to put it back (a task definition's ARN, say).
    reference: str = ""
    address: str = ""
    stranger: str = ""

    def after(self, target: Target, to: Software) -> "Running":
        """What there will be once `to` was deployed. What is in the reference nobody knows yet."""
        new = {"version": to.version, "digest": to.digest, "image": to.image}
        return replace(self, **new, reference="", address="", stranger="")


@dataclass(frozen=True)
class Rollout:
    """What a change would do: its steps, the steps that put it back, and its from → to, an instance a row.

    unforeseen: why nobody can say beforehand that it is the release that comes, in words; "" where it is.
    """

    steps: tuple[StepSpec, ...]
    recovery: tuple[StepSpec, ...]
    changes: tuple[dict[str, str], ...] = field(default=())
    unforeseen: str = ""


class Driver(Protocol):
    """One file each, in the dict `DRIVERS`."""

    name: str
    # Step functions by full name, "<driver>.<step>".
    steps: Mapping[str, StepFunction]

    def running(self, target: Target) -> list[Running]:
        """Ask the place what runs there. Raises StepError, in words, when it cannot be asked."""

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        """The steps from what runs to `to`. Pure: no clock, no network."""


@runtime_checkable
class Declarable(Protocol):
    """What a driver may offer besides, to whoever writes a configuration file.

    addressed: each instance is asked at an address of its own.
    """

    addressed: bool

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with driver settings that somebody wrote down, in words, by key; empty for nothing."""

    def address_for(self, environment: str, instance: str) -> str:
        """The address of an instance that is declared with "auto". Raises StepError when there is none."""


@dataclass(frozen=True)
class Scaling:
    """Setting how many instances of a service run. begin: set it going; wait: until so many run and are well.

    For a count of 0, `wait` proves that nothing runs, by asking the place; it raises `Unknown` when it cannot be asked.
    """

    begin: tuple[StepSpec, ...]
    wait: tuple[StepSpec, ...]


@runtime_checkable
class Scalable(Protocol):
    """What a driver may offer besides, to disaster recovery: to start a service elsewhere, or to stop all of it."""

    def scale(self, target: Target, count: int, software: Software | None, *, key: str) -> Scaling:
        """The steps to `count` instances, of this software (None: whatever it is). Pure. key: begins every step's.

        A place that cannot be reached is no failure of a `begin` step of count 0: it says so, and `wait` decides.
        """


@dataclass(frozen=True)
class Difference:
    """One thing that runs otherwise than it was deployed.

    what: "image", "count", "environment" or "registration". subject: where ("production-1"). wanted, found: in words,
    values of secrets never.
    """

    what: str
    subject: str
    wanted: str
    found: str


# Whoever looks for drift waits no longer for an answer, so that what differs is on the board within a minute.
LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class Unheard:
    """A part of a place that could not be asked. subject: as in a `Difference`; why: in words.

    what: of which kind of difference nothing is known there; "" for none of them.
    """

    subject: str
    why: str
    what: str = ""

    def concerns(self, what: str, subject: str) -> bool:
        """Whether nobody knows if this differs."""
        return subject == self.subject and self.what in ("", what)


class PartlyUnknown(StepError):
    """Some of a place could not be asked. differences: what was found where somebody answered."""

    def __init__(self, differences: Sequence[Difference], unheard: Sequence[Unheard]) -> None:
        super().__init__("; ".join(dict.fromkeys(one.why for one in unheard)))
        self.differences, self.unheard = differences, unheard


@runtime_checkable
class Comparable(Protocol):
    """What a driver may offer besides: whether what runs is what was deployed."""

    def differences(self, target: Target, deployed: Software) -> list[Difference]:
        """Ask the place; empty when all is as it was deployed.

        Raises StepError when it cannot be asked, and PartlyUnknown, with what was found, when some of it cannot.
        """


@dataclass(frozen=True)
class Adoptable:
    """What would be remembered of a place, were what runs there adopted. changes: what of it is new, from → to."""

    left: Mapping[str, Any]
    changes: tuple[dict[str, str], ...]


@runtime_checkable
class Leaving(Protocol):
    """What a driver may offer besides: to remember how a deployment left a place, beside the release.

    What is remembered (`Target.left`) is what a person's change is told by, put back to, or, when it is adopted,
    replaced with. Plain data of the driver's own.
    """

    def left(self, target: Target, noted: Iterable[tuple[Arguments, Arguments]]) -> Mapping[str, Any]:
        """What to remember once an operation has changed the place. Pure.

        noted: the arguments and the checkpoint of each of its steps.
        """

    def adoptable(self, target: Target, running: list[Running]) -> Adoptable:
        """From what runs. Pure."""

    def may_be_adopted(self, difference: Difference) -> bool:
        """Whether adopting would be an answer to it. Pure."""


# A question that people wait for has its answer within so many seconds, or none.
KEPT_SECONDS = 5.0


@dataclass(frozen=True)
class Kept:
    """Whether a release could be started at a place again: passed or failed; how that is known, or what would help."""

    outcome: Outcome
    words: str


@runtime_checkable
class Keeping(Protocol):
    """What a driver may offer besides: whether a release that runs there could be gone back to."""

    def kept(self, target: Target, software: Software) -> Kept:
        """Ask the place, and where it has to the registry, with at most `KEPT_SECONDS` for each answer.

        Raises StepError, in words, when it cannot be asked.
        """


@dataclass(frozen=True)
class Document:
    """A file that somebody could apply by hand, equal to what the driver would apply. name: of the file."""

    name: str
    text: str


@runtime_checkable
class Exportable(Protocol):
    """What a driver may offer besides: what it would apply, as files."""

    def documents(self, target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        """It may ask the place, and changes nothing. variables: the environment's; secrets as references, never values.

        Raises StepError.
        """
