"""Reading a configuration file strictly: every problem with its key and a remedy, all of them at once."""

import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Problem:
    """path: the key, as the file spells it. words: what is wrong and what to write instead."""

    path: str
    words: str


class FileError(Exception):
    """The file cannot be applied. problems: all that is wrong with it; nothing was changed."""

    def __init__(self, file: Path, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{file}: {f'{one.path}: ' if one.path else ''}{one.words}" for one in problems))
        self.problems = problems


@dataclass
class Table:
    """One table of the file, read key by key; `end` reports the keys that nobody asked for."""

    path: str
    values: dict[str, Any]
    problems: list[Problem]
    document: Mapping[str, Any]
    _asked: set[str] = field(default_factory=set)

    def key(self, name: str) -> str:
        """The full path of a key."""
        spelled = name if BARE.fullmatch(name) else f'"{name}"'
        return f"{self.path}.{spelled}" if self.path else spelled

    def wrong(self, name: str, words: str) -> None:
        """Note what is wrong with a key."""
        self.problems.append(Problem(self.key(name), words))

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str | None = None, *, limit: int = 300) -> str:
        """A text; one without a default must be there and not empty."""
        value: str = self._get(name, default, str, "text in quotes")
        if default is None and name in self.values and not value:
            self.wrong(name, "must not be empty.")
        if len(value) > limit:
            self.wrong(name, f"has {len(value)} characters; shorten it to {limit}.")
        if "\x00" in value:
            self.wrong(name, "must not contain a NUL character.")
        return value

    def number(self, name: str, default: int, *, most: int) -> int:
        """A whole number from 0 to `most`."""
        value: int = self._get(name, default, int, "a whole number")
        if not 0 <= value <= most:
            self.wrong(name, f"is {value}; write a whole number from 0 to {most}.")
            return default
        return value

    def choice(self, name: str, choices: Collection[str], default: str | None = None) -> str:
        """One of some words."""
        value = self.text(name, default)
        if value and value not in choices:
            self.wrong(
                name, f"“{value}” is not known; write one of: {', '.join(sorted(choices))}.{_near(value, choices)}"
            )
            return ""
        return value

    def checked(self, name: str, problem_with: Callable[[str], str], default: str | None = None) -> str:
        """A text that a function finds nothing wrong with."""
        value = self.text(name, default)
        if value and (words := problem_with(value)):
            self.wrong(name, f"“{value}” {words}.")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty if it is not there."""
        values = self._get(name, [], list, "a list")
        found = [value for value in values if isinstance(value, str)]
        if len(found) != len(values):
            self.wrong(name, 'has to be a list of texts, as in ["a", "b"].')
        return found

    def rest(self) -> dict[str, Any]:
        """Every key nobody asked for yet, whose content somebody else checks."""
        others = {name: value for name, value in self.values.items() if name not in self._asked}
        self._asked |= others.keys()
        return others

    def raw(self, name: str) -> dict[str, Any]:
        """A table whose content somebody else checks; empty if it is not there."""
        return dict(self._get(name, {}, dict, "a table"))

    def list_of_tables(self, name: str) -> Iterator["Table"]:
        """A list of tables, as in [{ name = "a" }, { name = "b" }]."""
        for number, value in enumerate(self._get(name, [], list, "a list")):
            if isinstance(value, dict):
                yield Table(f"{self.key(name)}[{number}]", value, self.problems, self.document)
            else:
                self.problems.append(Problem(f"{self.key(name)}[{number}]", f"has to be a table, not {_kind(value)}."))

    def tables(self, name: str, *, slugs: bool = True) -> Iterator[tuple[str, "Table"]]:
        """The tables below a key, by their names."""
        yield from self.below(name).each(slugs=slugs)

    def each(self, *, slugs: bool = True) -> Iterator[tuple[str, "Table"]]:
        """The tables of this one, by their names."""
        below = self
        for key in below.values:
            if slugs and (not SLUG.fullmatch(key) or len(key) > 60):
                below.wrong(key, "is no name for this: use up to 60 small letters, digits and single hyphens.")
            elif isinstance(below.values[key], dict):
                yield key, below.below(key)
            else:
                below.wrong(key, f"has to be a table, not {_kind(below.values[key])}.")

    def below(self, name: str) -> "Table":
        """The table of a key."""
        return Table(self.key(name), self.raw(name), self.problems, self.document)

    def end(self) -> None:
        """Report what was not asked for."""
        for name in self.values.keys() - self._asked:
            self.wrong(
                name,
                f"is not a key of this table; there are: {', '.join(sorted(self._asked))}.{_near(name, self._asked)}",
            )

    def _get(self, name: str, default: Any, kind: type, words: str) -> Any:
        self._asked.add(name)
        if name not in self.values:
            if default is None:
                self.wrong(name, f"is missing; write {words}.")
            return kind() if default is None else default
        value = self.values[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.wrong(name, f"has to be {words}, not {_kind(value)}.")
            return kind() if default is None else default
        return value


def open_table(file: Path) -> Table:
    """The whole file as a table. Raises FileError when it is none."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(file, [Problem("", f"cannot be read: {error.strerror}. Check the path.")]) from error
    except UnicodeDecodeError as error:
        raise FileError(file, [Problem("", f"is not UTF-8 text ({error.reason} at byte {error.start}).")]) from error
    except tomllib.TOMLDecodeError as error:
        raise FileError(file, [Problem("", f"is not TOML: {error}.")]) from error
    return Table("", values, [], values)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or a time")


def _near(word: str, known: Collection[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""
