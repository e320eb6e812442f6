"""The sections of the configuration file: each app registers those it owns in `AppConfig.ready()`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from environments.declarations.reading import Table


@dataclass(frozen=True)
class Trace:
    """What the audit trail keeps of a change."""

    action: str
    target: str
    scopes: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One difference between the file and what exists.

    sign: "+" comes, "~" becomes different, "-" goes. path: the key in the file. lines: what in particular.
    make: brings it about, in the transaction of the whole. trace: None where `make` records it itself.
    """

    sign: str
    path: str
    lines: tuple[str, ...]
    make: Callable[[], object]
    trace: Trace | None = None

    def __str__(self) -> str:
        return "\n".join([f"{self.sign} {self.path}", *(f"      {line}" for line in self.lines)])


@dataclass(frozen=True)
class Section:
    """One top-level key of the file.

    read: checks everything below the key, notes problems in the table, changes nothing; returns what is declared.
    changes: the differences between what is declared and what exists, in the order to make them.
    left_alone: what exists but is not in the file, in words.
    """

    key: str
    read: Callable[[Table], Any]
    changes: Callable[[Any], Iterable[Change]]
    left_alone: Callable[[Any], list[str]] = lambda declared: []


_sections: dict[str, Section] = {}


def register_section(section: Section) -> None:
    """Make a section known; the file's changes are made in the order of registration. Raises ValueError if taken."""
    if _sections.setdefault(section.key, section) != section:
        raise ValueError(f"section {section.key} is registered twice")


def sections() -> list[Section]:
    """Everything registered."""
    return list(_sections.values())


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs, by key: before and after."""
    keys = [*before, *(key for key in after if key not in before)]
    return {key: [before.get(key, ""), after.get(key, "")] for key in keys if before.get(key, "") != after.get(key, "")}


def lines_of(changes: Mapping[str, list[Any]]) -> tuple[str, ...]:
    """The same for people: `key: before → after`."""
    return tuple(_line(key, before, after) for key, (before, after) in changes.items())


def _line(key: str, before: Any, after: Any) -> str:
    if before in ("", [], {}):
        return f"{key}: {_words(after)}"
    return f"{key}: {_words(before)} → {_words(after)}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(one)}" for key, one in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(_words(one) for one in value) or "nothing"
    return str(value) if value != "" else "nothing"
