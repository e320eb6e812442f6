"""Two listings, both in order, gone through side by side: what is missing at the target, what is another there.

Never all names in memory. After each name it is known how far one came, so whoever is killed goes on from there.
What is newer at the target stays: people who were served there may have made it.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from controlplane.operations.errors import StepError

NEWEST, NAMED = 10, 20
MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class File:
    """A file or object as a listing shows it. mark: of its content, "" where the listing says nothing of it."""

    name: str
    size: int
    modified_ns: int
    mark: str = ""


@dataclass(frozen=True)
class Proof:
    """What can be learnt of one object by asking for it. digests: of its content, by algorithm.

    replica: replication brought it, so nobody at this side has written it.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    replica: bool = False


class Place(Protocol):
    """One side's files. Raises StepError, in words that say what to do."""

    def files(self, after: str) -> Iterator[File]:
        """Those whose names come after this one, in the order of their bytes in UTF-8."""

    def proof(self, name: str) -> Proof:
        """More of one of them; nothing of one that is gone."""

    def ask(self) -> None:
        """Raise StepError when the place cannot be read now."""


class SourceAway(StepError):
    """It is the source that cannot be read: then what the target has is all there is."""


class Outcome(StrEnum):
    """What was found of one name."""

    SAME = "same"
    MISSING = "missing"
    DIFFERENT = "different"
    NEWER = "newer at the target"
    EXTRA = "only at the target"


@dataclass
class Totals:
    """What was counted so far. late: missing or different, and older than what replication may be behind.

    copied: brought over; left: to be brought over, but could not be, with the first of them in `trouble`.
    newest: of the source, [[modified_ns, name]]. examples: names with what is the matter.
    """

    source_count: int = 0
    source_bytes: int = 0
    target_count: int = 0
    target_bytes: int = 0
    missing: int = 0
    missing_bytes: int = 0
    different: int = 0
    different_bytes: int = 0
    late: int = 0
    newer: int = 0
    extra: int = 0
    copied: int = 0
    copied_bytes: int = 0
    left: int = 0
    newest: list[list[Any]] = field(default_factory=list)
    examples: list[list[str]] = field(default_factory=list)
    trouble: list[list[str]] = field(default_factory=list)

    def add(self, outcome: Outcome, here: File | None, there: File | None, *, late_before_ns: int = 0) -> None:
        """Count one name in."""
        if here:
            self.source_count += 1
            self.source_bytes += here.size
            heapq.heappush(self.newest, [here.modified_ns, here.name])
            if len(self.newest) > NEWEST:
                heapq.heappop(self.newest)
        if there:
            self.target_count += 1
            self.target_bytes += there.size
        match outcome:
            case Outcome.MISSING:
                self.missing += 1
            case Outcome.DIFFERENT:
                self.different += 1
            case Outcome.NEWER:
                self.newer += 1
            case Outcome.EXTRA:
                self.extra += 1
        if here and outcome == Outcome.MISSING:
            self.missing_bytes += here.size
        if here and outcome == Outcome.DIFFERENT:
            self.different_bytes += here.size
        if here and wanted(outcome) and here.modified_ns < late_before_ns:
            self.late += 1
        if here and outcome not in (Outcome.SAME, Outcome.EXTRA) and len(self.examples) < NAMED:
            self.examples.append([here.name, outcome.value])

    def brought(self, here: File, there: File | None, *, late_before_ns: int = 0) -> None:
        """One that was counted as wanted was brought over: what the target has, and what is late, is different now."""
        self.copied += 1
        self.copied_bytes += here.size
        self.target_count += there is None
        self.target_bytes += here.size - (there.size if there else 0)
        self.late -= here.modified_ns < late_before_ns

    def as_json(self) -> dict[str, Any]:
        """What a row or checkpoint keeps."""
        return asdict(self)


def wanted(outcome: Outcome) -> bool:
    """Whether it has to be brought over."""
    return outcome in (Outcome.MISSING, Outcome.DIFFERENT)


def side_by_side(source: Place, target: Place, after: str = "") -> Iterator[tuple[File | None, File | None]]:
    """Every name after this one, once, with what each side has of it. Raises SourceAway or StepError."""
    ours, theirs = in_order(_of_source(source.files(after))), in_order(target.files(after))
    here, there = next(ours, None), next(theirs, None)
    while here or there:
        first = min(_bytes(one) for one in (here, there) if one)
        at_source = here if here and _bytes(here) == first else None
        at_target = there if there and _bytes(there) == first else None
        yield at_source, at_target
        here = next(ours, None) if at_source else here
        there = next(theirs, None) if at_target else there


def _bytes(one: File) -> bytes:
    return one.name.encode()


def _of_source(files: Iterator[File]) -> Iterator[File]:
    try:
        yield from files
    except StepError as error:
        raise SourceAway(str(error), permanent=error.permanent) from error


def in_order(files: Iterable[File]) -> Iterator[File]:
    """The same. Raises StepError when they are in no order: two listings could not be compared then."""
    before = b""
    for one in files:
        now = one.name.encode()
        if now <= before:
            words = f"The listing is in no order: {one.name!r} comes behind {before.decode()!r}."
            raise StepError(f"{words} A server whose listings are not sorted cannot be compared.", permanent=True)
        before = now
        yield one


def judge(here: File | None, there: File | None, look: Callable[[str], tuple[Proof, Proof]]) -> Outcome:
    """What to make of one name.

    1. One side only: missing, or only at the target.
    2. Same size, same mark: the same. Where the marks cannot be compared (an upload in parts has another kind of
       mark), a copy that was made after the source's last change is taken for the same.
    3. Otherwise both are asked for digests; equal ones are the same, whatever the marks say.
    4. What differs, and is not older at the target, stays (listings tell whole seconds), unless replication brought
       it: then the source was changed since, and the copy only shows when it arrived.
    """
    if here is None:
        return Outcome.EXTRA
    if there is None:
        return Outcome.MISSING
    alike = here.size == there.size
    if alike and here.mark and here.mark == there.mark:
        return Outcome.SAME
    later = there.modified_ns >= here.modified_ns
    if alike and not (MD5.fullmatch(here.mark) and MD5.fullmatch(there.mark)):
        return Outcome.SAME if later else Outcome.DIFFERENT
    if alike or later:
        ours, theirs = look(here.name)
        shared = ours.digests.keys() & theirs.digests.keys()
        if alike and shared and all(ours.digests[name] == theirs.digests[name] for name in shared):
            return Outcome.SAME
        if alike and not shared and later:
            return Outcome.SAME
        if theirs.replica and not ours.replica:
            return Outcome.DIFFERENT
    return Outcome.NEWER if later else Outcome.DIFFERENT
