"""What was deployed to a placement, as drivers know software: the image's name is known to the app of releases only."""

from collections.abc import Callable, Mapping, Sequence

from environments.drivers.base import Software
from environments.models import Placement

Images = Callable[[Sequence[Placement]], Mapping[int, str]]
Aside = Callable[[Sequence[Placement]], Mapping[int, frozenset[str]]]
_sources: list[Images] = []
_asides: list[Aside] = []


def register(images: Images) -> None:
    """Have the images of what was deployed looked up by this; by placement, in one query."""
    if images not in _sources:
        _sources.append(images)


def deployed_at(placements: Sequence[Placement]) -> dict[int, Software]:
    """By placement: what the last deployment left there. image: "" where no release is known."""
    images: dict[int, str] = {}
    for source in _sources:
        images |= source(placements)
    return {one.pk: Software(one.version, images.get(one.pk, ""), one.digest) for one in placements}


def register_aside(aside: Aside) -> None:
    """Have the instances that were left on another release on purpose looked up by this; by placement."""
    if aside not in _asides:
        _asides.append(aside)


def set_aside(placements: Sequence[Placement]) -> dict[int, frozenset[str]]:
    """By placement: names of instances of which nobody expects that they run what was deployed."""
    found: dict[int, frozenset[str]] = {}
    for aside in _asides:
        found |= aside(placements)
    return found
