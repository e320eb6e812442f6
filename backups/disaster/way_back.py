"""A way home that fails behind its fence: people are let back in where they were served. Pure.

In this order: nothing runs at home any more, and its database is closed again; only then the side that people were
about to leave is opened, its applications are started, and people are sent there, where they had been taken out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from backups.disaster.applications import Application
from backups.disaster.base import Part
from controlplane.operations.plans import StepSpec
from environments.drivers.base import Scaling

GROUP = "Back to where people were"


def way_back(
    applications: Sequence[Application], database: tuple[StepSpec, ...], traffic: Part
) -> tuple[StepSpec, ...]:
    """The recovery steps of a failback. database: of `Returning.give_back`; traffic: the switch back to the source."""
    switch = (*traffic.begin, *traffic.wait, *traffic.open, *traffic.verify)
    steps = (
        *_all_of(one.leaving() for one in applications),
        *database,
        *_all_of(one.returning() for one in applications),
        *(replace(step, key=f"back/{step.key}") for step in switch),
    )
    return tuple(replace(step, group=GROUP) for step in steps)


def _all_of(scalings: Iterable[Scaling]) -> Iterable[StepSpec]:
    found = list(scalings)
    yield from (step for one in found for step in one.begin)
    yield from (step for one in found for step in one.wait)
