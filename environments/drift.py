"""Drift: what runs otherwise than it was deployed, looked for by the clock at every placement with a release.

1. Claim what is due in one short statement: its next look is set at once, so two clocks never look twice. A place
   that an operation is changing is left alone until that has ended.
2. Ask the drivers, so many at the same time, with no transaction open.
3. Write down what began and what ended; but nothing where an operation came between, or a later look was first.

A place that cannot be asked is neither as it was deployed nor otherwise: its state is that nobody knows.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import connection, connections, transaction
from django.db.models import OuterRef, QuerySet
from django.db.models.functions import Now

from controlplane.live.ring import ring
from controlplane.operations import attached
from controlplane.operations.errors import StepError
from controlplane.operations.events import storable
from controlplane.operations.models import OperationLock
from environments.balancers import aside
from environments.deployed import deployed_at, set_aside
from environments.drivers import DRIVERS
from environments.drivers.base import Comparable, Difference, Instance, Software, Target
from environments.models import Drift, DriftWatch, Placement
from environments.targets import target_of

logger = logging.getLogger(__name__)

# Each place is asked so often, in seconds; with a look's own time it is on the board within a minute.
EVERY = 20
AT_ONCE = 16  # places asked at the same time, by one clock
DIFFERENCES = 50  # kept of one look: more is a place where nothing is as it was deployed

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
        AND NOT EXISTS (SELECT 1 FROM operations_operationlock AS held WHERE held.name = environment.slug)
        ORDER BY watch.due_at LIMIT %s FOR UPDATE OF watch SKIP LOCKED
    )
    RETURNING placement_id, look
"""


@dataclass(frozen=True)
class Question:
    """One place to ask. look: the number of this look. aside: instances that are to get no requests."""

    placement: int
    look: int
    driver: Comparable
    target: Target
    deployed: Software
    aside: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a place said. unknown: why it could not be asked, "" when it could."""

    question: Question
    differences: Sequence[Difference] = field(default_factory=list)
    unknown: str = ""


def look_due() -> int:
    """Compare the placements whose time has come with what was deployed there; returns how many were asked."""
    drivers = {name: driver for name, driver in DRIVERS.items() if isinstance(driver, Comparable)}
    with connection.cursor() as cursor:
        cursor.execute(WATCH_NEW)
        cursor.execute(CLAIM, [EVERY, list(drivers), AT_ONCE])
        claimed: dict[int, int] = dict(cursor.fetchall())
    questions = list(_questions(claimed, drivers))
    if not questions:
        return 0
    with ThreadPoolExecutor(min(AT_ONCE, len(questions)), thread_name_prefix="drift") as pool:
        answers = list(pool.map(_ask, questions))
    for answer in answers:
        _write_down(answer)
    return len(answers)


def _questions(claimed: dict[int, int], drivers: Mapping[str, Comparable]) -> Iterable[Question]:
    placements = list(Placement.objects.filter(pk__in=claimed).select_related("environment", "service"))
    deployed, without_requests = deployed_at(placements), set_aside(placements)
    for one in placements:
        driver, target = drivers[one.environment.driver], target_of(one)
        idle = tuple(each for each in target.instances if each.name in without_requests.get(one.pk, ()))
        others = tuple(each for each in target.instances if each not in idle)
        expected = replace(target, instances=others, beside=idle)
        yield Question(one.pk, claimed[one.pk], driver, expected, deployed[one.pk], idle)


def _ask(question: Question) -> Answer:
    try:
        found = question.driver.differences(question.target, question.deployed)
        return Answer(question, [*found, *aside.differences(question.target, question.aside)][:DIFFERENCES])
    except StepError as error:
        return Answer(question, unknown=storable(str(error))[:500])
    except Exception as error:
        logger.exception("%s: the driver could not look", question.target.environment)
        return Answer(question, unknown=f"the driver could not look: {type(error).__name__}")
    finally:
        connections.close_all()


def _write_down(answer: Answer) -> None:
    """What began and what ended, unless the place has been changed on purpose since it was asked."""
    question = answer.question
    with transaction.atomic():
        watches = DriftWatch.objects.select_for_update().filter(placement=question.placement, look=question.look)
        watch = watches.select_related("placement").first()
        if watch is None or not _still_true(question, watch.placement):
            return
        changed = _note_unknown(watch, answer.unknown) if answer.unknown else _note_known(watch, answer.differences)
        if changed:
            transaction.on_commit(lambda: ring("news", "drift environments"))


def _still_true(question: Question, placement: Placement) -> bool:
    same = (placement.version, placement.digest) == (question.deployed.version, question.deployed.digest)
    return same and not OperationLock.objects.filter(name=question.target.environment).exists()


def _note_unknown(watch: DriftWatch, words: str) -> bool:
    """What was known to differ stays open: nobody can say that it has ended."""
    began = not watch.unknown
    new = {"unknown": words, **({"unknown_since": Now()} if began else {})}
    DriftWatch.objects.filter(pk=watch.pk).update(**new)
    return began or watch.unknown != words


def _note_known(watch: DriftWatch, differences: Sequence[Difference]) -> bool:
    found = dict.fromkeys(_storable(one) for one in differences)
    rows = {_parts(row): row for row in Drift.objects.filter(placement=watch.placement, ended_at=None)}
    ended = [row.pk for parts, row in rows.items() if parts not in found]
    begun = [parts for parts in found if parts not in rows]
    Drift.objects.filter(pk__in=ended).update(ended_at=Now())
    Drift.objects.bulk_create(
        Drift(placement=watch.placement, what=what, subject=subject, wanted=wanted, found=seen)
        for what, subject, wanted, seen in begun
    )
    DriftWatch.objects.filter(pk=watch.pk).update(known_at=Now(), unknown="", unknown_since=None)
    return bool(ended or begun or watch.unknown or watch.known_at is None)


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

    @property
    def has_other_image(self) -> bool:
        """Whether another release runs than was deployed: only that can be adopted."""
        return any(one.what == "image" for one in self.differences)


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
