"""The protocol of a driver: how to talk to a place where software runs.

A driver is one file: what runs now, what a rollout would do (pure), and the functions of its steps, which it
names "<driver>.<step>". Everything a step needs to know stands in its arguments, so that the plan people
approve is the whole truth and a changed setting changes the digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from controlplane.operations.plans import StepSpec
from controlplane.operations.registry import StepFunction


@dataclass(frozen=True)
class Instance:
    """One place a service runs at. address: base URL, "" where only the whole service has one."""

    name: str
    address: str = ""


@dataclass(frozen=True)
class Target:
    """A service in an environment, as a driver sees it. settings: the environment's, then the placement's."""

    environment: str
    service: str
    instances: tuple[Instance, ...]
    url: str
    health_path: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Software:
    """A release as drivers need it. digest: "sha256:…" of the image; "" where none is known."""

    version: str
    image: str
    digest: str


@dataclass(frozen=True)
class Running:
    """What runs at one instance now. version "": nothing runs."""

    instance: str
    version: str
    digest: str
    image: str = ""
    # What the driver must remember to put it back (a task definition's ARN, say).
    reference: str = ""


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
    """What a driver may offer besides, to whoever writes a configuration file."""

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with driver settings that somebody wrote down, in words, by key; empty for nothing."""

    def address_for(self, environment: str, instance: str) -> str:
        """The address of an instance that is declared with "auto". Raises StepError when there is none."""
