"""Drift: what runs otherwise than it was deployed, looked for by the clock at every placement with a release.

1. Claim what is due in one short statement: its next look is set at once, so two clocks never look twice. A place
   that an operation is changing is left alone until that has ended.
2. Ask the drivers, each place in a thread of its own (`drift_looks`), with no transaction open.
3. Write down what began and what ended as each answers; but nothing where an operation came between, or a later look
   was first. Who is slow is waited for by nobody: the next call writes down what it said, or gives it up.

A place that cannot be asked is neither as it was deployed nor otherwise: its state is that nobody knows. Where a part
of it answers, what differs there is said, and of the rest that it is not known.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import connection, transaction
from django.db.models import OuterRef, QuerySet
from django.db.models.functions import Now

from controlplane.live.ring import ring
from controlplane.operations import attached
from controlplane.operations.events import storable
from controlplane.operations.models import OperationLock
from environments.deployed import deployed_at, set_aside
from environments.drift_looks import Answer, Looks, Question
from environments.drivers import DRIVERS
from environments.drivers.base import Comparable, Difference, Leaving, Unheard
from environments.models import Drift, DriftWatch, Placement
from environments.targets import target_of

# Each place is asked so often, in seconds; with a turn and a look's own time it is on the board within a minute.
EVERY = 20
AT_ONCE = 16  # places that are asked anew in one turn of one clock
TURN = 5.0  # seconds that a turn waits for those that it asks; then others are asked beside those that are slow
LOOK_SECONDS = 30.0  # a look without an answer is given up
FORGET_SECONDS = 600.0  # a thread that has not come back from a look that was given up is not reckoned with any more

WATCH_NEW = """
    INSERT INTO environments_driftwatch (placement_id, look, unknown)
    SELECT placement.id, 0, '' FROM environments_placement AS placement
    WHERE placement.version <> ''
    AND NOT EXISTS (SELECT 1 FROM environments_driftwatch AS watch WHERE watch.placement_id = placement.id)
    ON CONFLICT DO NOTHING
"""
CLAIM = """
    UPDATE environments_driftwatch SET due_at = statement_timestamp() + make_interval(secs => %s), look = look + 1
    WHERE id IN (
        SELECT watch.id FROM environments_driftwatch AS watch
        JOIN environments_placement AS placement ON placement.id = watch.placement_id
        JOIN environments_environment AS environment ON environment.id = placement.environment_id
        WHERE watch.due_at <= statement_timestamp() AND placement.version <> '' AND environment.driver = ANY(%s)
        AND watch.placement_id <> ALL(%s)
        AND NOT EXISTS (SELECT 1 FROM operations_operationlock AS held WHERE held.name = environment.slug)
        ORDER BY watch.due_at LIMIT %s FOR UPDATE OF watch SKIP LOCKED
    )
    RETURNING placement_id, look
"""


# A place that is being looked at by this process is claimed for as long as that takes: another clock would look twice,
# and a look that is not the last one is not written down.
CLAIM_AGAIN = """
    UPDATE environments_driftwatch AS watch SET due_at = statement_timestamp() + make_interval(secs => %s)
    FROM unnest(%s::bigint[], %s::bigint[]) AS mine (placement, look)
    WHERE watch.placement_id = mine.placement AND watch.look = mine.look AND watch.due_at > statement_timestamp()
"""

_looks = Looks()


def look_due() -> int:
    """Compare the placements whose time has come with what was deployed there; returns how many were asked."""
    _looks.forget(FORGET_SECONDS)
    drivers = {name: driver for name, driver in DRIVERS.items() if isinstance(driver, Comparable)}
    with connection.cursor() as cursor:
        if slow := _looks.awaited():
            cursor.execute(CLAIM_AGAIN, [EVERY, [one.placement for one in slow], [one.look for one in slow]])
        cursor.execute(WATCH_NEW)
        cursor.execute(CLAIM, [EVERY, list(drivers), _looks.places(), AT_ONCE])
        claimed: dict[int, int] = dict(cursor.fetchall())
    questions = list(_questions(claimed, drivers))
    for question in questions:
        _looks.begin(question)
    for answer in _looks.answers(questions, TURN):
        _write_down(answer)
    for answer in _looks.give_up(LOOK_SECONDS):
        _write_down(answer)
    return len(questions)


def _questions(claimed: dict[int, int], drivers: Mapping[str, Comparable]) -> Iterable[Question]:
    placements = list(Placement.objects.filter(pk__in=claimed).select_related("environment", "service"))
    deployed, without_requests = deployed_at(placements), set_aside(placements)
    for one in placements:
        driver, target = drivers[one.environment.driver], target_of(one)
        idle = tuple(each for each in target.instances if each.name in without_requests.get(one.pk, ()))
        others = tuple(each for each in target.instances if each not in idle)
        expected = replace(target, instances=others, beside=idle)
        yield Question(one.pk, claimed[one.pk], driver, expected, deployed[one.pk], idle)


def _write_down(answer: Answer) -> None:
    """What began and what ended, unless the place has been changed on purpose since it was asked."""
    question = answer.question
    with transaction.atomic():
        watches = DriftWatch.objects.select_for_update().filter(placement=question.placement, look=question.look)
        watch = watches.select_related("placement").first()
        if watch is None or not _still_true(question, watch.placement):
            return
        changed = False if answer.unknown else _note_known(watch, answer.differences, answer.unheard)
        words = answer.unknown or "; ".join(dict.fromkeys(one.why for one in answer.unheard))
        changed |= _note_unknown(watch, words) if words else _note_heard(watch)
        if changed:
            transaction.on_commit(lambda: ring("news", "drift environments"))


def _still_true(question: Question, placement: Placement) -> bool:
    same = (placement.version, placement.digest) == (question.deployed.version, question.deployed.digest)
    return same and not OperationLock.objects.filter(name=question.target.environment).exists()


def _note_unknown(watch: DriftWatch, words: str) -> bool:
    """Since when not all of it can be asked, and why."""
    began, words = not watch.unknown, storable(words)[:500]
    new = {"unknown": words, **({"unknown_since": Now()} if began else {})}
    DriftWatch.objects.filter(pk=watch.pk).update(**new)
    return began or watch.unknown != words


def _note_heard(watch: DriftWatch) -> bool:
    """All of it has answered."""
    DriftWatch.objects.filter(pk=watch.pk).update(known_at=Now(), unknown="", unknown_since=None)
    return bool(watch.unknown or watch.known_at is None)


def _note_known(watch: DriftWatch, differences: Sequence[Difference], unheard: Iterable[Unheard]) -> bool:
    """What was known to differ where nobody answered stays open: nobody can say that it has ended."""
    silent = list(unheard)
    found = dict.fromkeys(_storable(one) for one in differences)
    rows = {_parts(row): row for row in Drift.objects.filter(placement=watch.placement, ended_at=None)}
    gone = [row for parts, row in rows.items() if parts not in found]
    ended = [row.pk for row in gone if not any(one.concerns(row.what, row.subject) for one in silent)]
    begun = [parts for parts in found if parts not in rows]
    Drift.objects.filter(pk__in=ended).update(ended_at=Now())
    Drift.objects.bulk_create(
        Drift(placement=watch.placement, what=what, subject=subject, wanted=wanted, found=seen)
        for what, subject, wanted, seen in begun
    )
    return bool(ended or begun)


Parts = tuple[str, str, str, str]


def _parts(one: Difference | Drift) -> Parts:
    return one.what, one.subject, one.wanted, one.found


def _storable(one: Difference) -> Parts:
    what, subject, wanted, found = map(storable, _parts(one))
    return what[:20], subject[:200], wanted[:500], found[:500]


# --- what pages show ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """How a placement stands beside what was deployed. differences: open ones, the oldest first.

    unknown: why it cannot be asked, "" when it could; known_at: the last time it answered, None for never.
    """

    differences: list[Drift] = field(default_factory=list)
    unknown: str = ""
    unknown_since: datetime | None = None
    known_at: datetime | None = None

    @property
    def since(self) -> datetime | None:
        """Since when something differs."""
        return min((one.began_at for one in self.differences), default=None)

    @property
    def words(self) -> str:
        """What differs, in a line: "image of 2, count of 1"."""
        kinds = [one.what for one in self.differences]
        return ", ".join(f"{kind} of {kinds.count(kind)}" for kind in dict.fromkeys(kinds))

    def may_be_adopted(self, driver: str) -> bool:
        """Whether adopting is an answer: another release runs, or something else that the driver can remember."""
        known = DRIVERS[driver]
        return any(
            row.what == "image" or (isinstance(known, Leaving) and known.may_be_adopted(Difference(*_parts(row))))
            for row in self.differences
        )


def with_drift(placements: QuerySet[Placement]) -> QuerySet[Placement]:
    """The placements with all that `standing_of` needs, in their own query."""
    differing = Drift.objects.filter(placement=OuterRef("pk"), ended_at=None).order_by("began_at", "pk")
    watched = DriftWatch.objects.filter(placement=OuterRef("pk"))
    return placements.annotate(differing=attached.rows(differing), watched=attached.rows(watched))


def standing_of(placement: Placement) -> Standing:
    """How one of those stands beside what was deployed."""
    differences = attached.made_of(Drift, vars(placement)["differing"])
    watch = next(iter(attached.made_of(DriftWatch, vars(placement)["watched"])), None)
    if watch is None:
        return Standing()
    return Standing(differences, watch.unknown, watch.unknown_since, watch.known_at)


def standings_of(placements: Sequence[Placement]) -> dict[int, Standing]:
    """By placement: one query for all of them."""
    found = with_drift(Placement.objects.filter(pk__in=[one.pk for one in placements]))
    return {one.pk: standing_of(one) for one in found}


def ended_lately(placements: Sequence[Placement], count: int) -> list[Drift]:
    """The last that ended, the newest first."""
    ended = Drift.objects.filter(placement__in=placements, ended_at__isnull=False)
    return list(ended.select_related("placement__service").order_by("-ended_at", "-pk")[:count])
