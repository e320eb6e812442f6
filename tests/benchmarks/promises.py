"""What a benchmark's figures were promised to be: whoever runs it learns from its exit status whether they are."""

from collections.abc import Mapping
from typing import Any

Promises = Mapping[str, tuple[float, float]]  # the least and the most, by the figure's name


def missed(figures: Mapping[str, Any], promised: Promises) -> list[str]:
    """The promises that do not hold, in words; a figure that was not measured keeps none."""
    words = []
    for name, (least, most) in promised.items():
        found = figures.get(name)
        if not isinstance(found, int | float) or not least <= found <= most:
            bound = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            words.append(f"{name} is {'not measured' if found is None else found}, and {bound} was promised")
    return words
