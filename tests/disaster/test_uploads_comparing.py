"""Two sorted listings side by side: what is missing, what differs, what is newer at the target and stays."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from backups.disaster.uploads.comparing import (
    NEWEST,
    File,
    Outcome,
    Proof,
    SourceAway,
    Totals,
    judge,
    side_by_side,
)
from backups.disaster.uploads.walking import Progress, Walk
from controlplane.operations.errors import StepError

MD5_A, MD5_B = "a" * 32, "b" * 32
NOTHING = Proof()


@dataclass
class Paper:
    """A place that is a list."""

    names: list[File] = field(default_factory=list)
    error: StepError | None = None
    listed: int = 0

    def files(self, after: str) -> Iterator[File]:
        for one in self.names:
            if one.name.encode() > after.encode():
                self.listed += 1
                yield one
        if self.error:
            raise self.error

    def proof(self, name: str) -> Proof:
        return NOTHING

    def ask(self) -> None:
        if self.error:
            raise self.error


@dataclass
class Copies:
    """A copier that notes. errors: by name."""

    done: list[str] = field(default_factory=list)
    errors: dict[str, StepError] = field(default_factory=dict)

    def is_large(self, here: File) -> bool:
        return False

    def copy(self, here: File, there: File | None, check: Callable[[], None], begun: Callable[[], None]) -> bool:
        if here.name in self.errors:
            raise self.errors[here.name]
        self.done.append(here.name)
        return True

    def unfinished(self) -> list[list[str]]:
        return []

    def abandon(self, uploads: list[list[str]]) -> None:
        """Nothing."""


def named(*names: str, mark: str = MD5_A) -> list[File]:
    return [File(name, 1, 1, mark) for name in sorted(names, key=str.encode)]


def walk(source: Paper, target: Paper, copier: Copies | None = None, **more: object) -> Walk:
    values = {"check": lambda: None, "enough": lambda: False, "tell": lambda progress: None, **more}
    return Walk(source, target, copier=copier, **values)  # type: ignore[arg-type]


def after(count: int) -> Callable[[], bool]:
    """Time is up after so many."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def test_every_name_comes_once_whichever_side_has_it() -> None:
    pick = random.Random(7)
    names = [f"{pick.randrange(10**6)}/\N{SNOWMAN}{number}" for number in range(500)]
    ours, theirs = set(pick.sample(names, 300)), set(pick.sample(names, 300))
    pairs = list(side_by_side(Paper(named(*ours)), Paper(named(*theirs))))
    assert {here.name for here, _ in pairs if here} == ours
    assert {there.name for _, there in pairs if there} == theirs
    assert all(here.name == there.name for here, there in pairs if here and there)
    assert len(pairs) == len(ours | theirs)


def test_the_order_is_that_of_bytes() -> None:
    """As S3 has it: by UTF-8, where \N{FULLWIDTH LATIN SMALL LETTER A} comes before an emoji, unlike in UTF-16."""
    names = named("\N{FULLWIDTH LATIN SMALL LETTER A}", "\N{SNAIL}", "a", "Z", "a/b", "a.b")
    assert [here.name for here, _ in side_by_side(Paper(names), Paper()) if here] == [one.name for one in names]


def test_a_listing_without_order_is_refused() -> None:
    with pytest.raises(StepError, match="in no order"):
        list(side_by_side(Paper([File("b", 1, 1), File("a", 1, 1)]), Paper()))


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (None, (1, 1, MD5_A), Outcome.EXTRA),
        ((1, 1, MD5_A), None, Outcome.MISSING),
        ((1, 5, MD5_A), (1, 9, MD5_A), Outcome.SAME),
        ((1, 9, MD5_A), (1, 5, MD5_A), Outcome.SAME),  # whatever the times say
        ((2, 9, MD5_A), (1, 5, MD5_B), Outcome.DIFFERENT),
        ((2, 5, MD5_A), (1, 9, MD5_B), Outcome.NEWER),
        ((2, 5, MD5_A), (1, 5, MD5_B), Outcome.NEWER),  # in the same second: perhaps
        ((1, 5, f"{MD5_A}-3"), (1, 9, MD5_B), Outcome.SAME),  # in parts here, whole there: cannot be compared
        ((1, 9, f"{MD5_A}-3"), (1, 5, MD5_B), Outcome.DIFFERENT),
        ((1, 9, ""), (1, 9, ""), Outcome.SAME),  # a folder: size and time
        ((1, 9, ""), (1, 8, ""), Outcome.DIFFERENT),
    ],
)
def test_what_is_made_of_a_name(
    here: tuple[int, int, str] | None, there: tuple[int, int, str] | None, expected: Outcome
) -> None:
    ours, theirs = (File("n", *one) if one else None for one in (here, there))
    assert judge(ours, theirs, lambda name: (NOTHING, NOTHING)) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (Proof({"MD5": "1"}), Proof({"MD5": "1"}), Outcome.SAME),
        (Proof({"MD5": "1"}), Proof({"MD5": "2"}), Outcome.NEWER),
        (Proof({"SHA256": "1", "MD5": "1"}), Proof({"SHA256": "1"}), Outcome.SAME),
        (Proof({"MD5": "1"}), Proof({}), Outcome.SAME),  # encrypted by a key of KMS: nothing to compare
        (Proof({"MD5": "1"}), Proof({"MD5": "2"}, replica=True), Outcome.DIFFERENT),  # an older version, that came late
        (Proof({"MD5": "1"}, replica=True), Proof({"MD5": "2"}, replica=True), Outcome.NEWER),
    ],
)
def test_what_differs_and_is_later_is_asked_about(ours: Proof, theirs: Proof, expected: Outcome) -> None:
    assert judge(File("n", 1, 5, MD5_A), File("n", 1, 9, MD5_B), lambda name: (ours, theirs)) == expected


def test_counts() -> None:
    source = Paper([File("a", 5, 1, MD5_A), File("b", 7, 100, MD5_A), File("c", 9, 1, MD5_A), File("d", 1, 1, MD5_A)])
    target = Paper([File("a", 5, 1, MD5_A), File("c", 1, 0, MD5_B), File("d", 2, 2, MD5_B), File("z", 3, 1, MD5_A)])
    totals = walk(source, target, late_before_ns=50).go(Progress()).totals
    assert (totals.source_count, totals.source_bytes, totals.target_count, totals.target_bytes) == (4, 22, 4, 11)
    assert (totals.missing, totals.missing_bytes, totals.different, totals.different_bytes) == (1, 7, 1, 9)
    assert (totals.newer, totals.extra) == (1, 1)
    assert totals.late == 1, "b is so new that it may still be on its way"
    assert totals.examples == [["b", "missing"], ["c", "different"], ["d", "newer at the target"]]


def test_the_newest_are_remembered() -> None:
    totals = Totals()
    for number in random.Random(3).sample(range(1000), 1000):
        totals.add(Outcome.SAME, File(str(number), 1, number), None)
    assert sorted(one[0] for one in totals.newest) == list(range(1000 - NEWEST, 1000))


def test_it_goes_on_where_it_was() -> None:
    """However often it is stopped, each name is handled once and counted once."""
    source, target = (
        Paper(named(*(f"{n:03}" for n in range(200)))),
        Paper(named(*(f"{n:03}" for n in range(0, 200, 3)))),
    )
    copies, turns = Copies(), 0
    kept: dict[str, object] = {}
    while True:
        progress = walk(source, target, copies, enough=after(17)).go(Progress.of(kept))
        kept = progress.as_json()
        turns += 1
        if progress.whole:
            break
    assert turns > 5
    assert sorted(set(copies.done)) == sorted(f"{n:03}" for n in range(200) if n % 3)
    assert (progress.totals.source_count, progress.totals.target_count) == (200, 200)
    assert progress.totals.copied == progress.totals.missing == 133


def test_whose_fault_it_is() -> None:
    away = StepError("gone")
    with pytest.raises(SourceAway, match="gone"):
        walk(Paper(named("a"), error=away), Paper()).go(Progress())
    with pytest.raises(StepError) as found:
        walk(Paper(named("a")), Paper(error=away)).go(Progress())
    assert not isinstance(found.value, SourceAway)


def test_one_file_that_cannot_be_brought_stops_nothing() -> None:
    copies = Copies(errors={"b": StepError("refused", permanent=True)})
    totals = walk(Paper(named("a", "b", "c")), Paper(), copies).go(Progress()).totals
    assert sorted(copies.done) == ["a", "c"]
    assert (totals.copied, totals.left, totals.trouble) == (2, 1, [["b", "refused"]])


def test_where_none_can_be_it_stops() -> None:
    names = [f"{n:03}" for n in range(100)]
    copies = Copies(errors=dict.fromkeys(names, StepError("not allowed", permanent=True)))
    with pytest.raises(StepError, match="Nothing can be brought over: not allowed"):
        walk(Paper(named(*names)), Paper(), copies).go(Progress())


def test_never_all_names_in_memory() -> None:
    """It stops in the middle, and has asked for little more than it handled."""
    source = Paper([File(f"{n:06}", 1, 1, MD5_A) for n in range(20_000)])
    walk(source, Paper(), Copies(), enough=after(100)).go(Progress())
    assert source.listed < 200
