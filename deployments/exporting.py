"""What `manage.py export` can print: each app's exports register here in `AppConfig.ready()`."""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Export:
    """One thing to print.

    arguments: declares those it takes. make: the text, from their values; raises OperationError, StepError.
    """

    name: str
    words: str
    arguments: Callable[[ArgumentParser], None]
    make: Callable[[dict[str, Any]], str]


_exports: dict[str, Export] = {}


def register_export(export: Export) -> None:
    """Make an export known. Raises ValueError when the name is taken by another."""
    if _exports.setdefault(export.name, export) is not export:
        raise ValueError(f"export {export.name} is registered twice")


def exports() -> dict[str, Export]:
    """Everything registered, by name."""
    return dict(_exports)
