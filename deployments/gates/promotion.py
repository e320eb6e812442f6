"""The very digest has run before: in the environment before this one, for long enough, or right here."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q, QuerySet

from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.states import State
from deployments.gates.known import Known
from deployments.models import Deployment, Release
from environments.models import Arrival, Environment, Placement

# A digest that left the environment before so many deployments has to go there again.
LATELY = 100


class _Deployed(NamedTuple):
    """A deployment that succeeded; they sort in the order in which they ended. came_from: what it found running."""

    finished: datetime
    started: datetime
    operation: int
    digest: str
    came_from: str


def gates(environment: Environment, release: Release, known: Known) -> list[Gate]:
    """The guide: staging is pre-production testing."""
    before = environment.promoted_from
    if not before:
        return []
    title = f"Has run in {before}"
    minutes = known.policy.soak_minutes
    stays = _stays(before, release, known) if minutes else []
    if not stays and known.there is None and not _was_there(before, release):
        words = f"{release.version} has not run in {before} yet. Deploy it there first."
        return [Gate("promotion", title, Outcome.FAILED, words)]
    passed = Gate("promotion", title, Outcome.PASSED, f"{release.version} with this digest has run in {before}")
    return [passed, _soaked(before, known, stays)] if minutes else [passed]


def _soaked(before: str, known: Known, stays: Sequence[timedelta]) -> Gate:
    """For so long, from when it came there until it was replaced, or until now."""
    needed = timedelta(minutes=known.policy.soak_minutes)
    title = f"Has run in {before} for {_words(needed)}"
    longest = max(stays, default=timedelta())
    if longest >= needed:
        return Gate("soak", title, Outcome.PASSED, f"it ran there for {_words(longest)}")
    if known.there is None or known.there.since is None:
        words = f"it ran in {before} for {_words(longest)} and does not run there any more. Deploy it there again."
        return Gate("soak", title, Outcome.FAILED, words)
    words = f"it has run there for {_words(longest)}; {_words(needed - longest)} are left"
    return Gate("soak", title, Outcome.PENDING, words)


def ran_before(environment: Environment, release: Release) -> Gate:
    """A rollback goes to something that has run right here."""
    title = f"Has run in {environment.slug}"
    if has_run(environment.slug, release):
        return Gate("promotion", title, Outcome.PASSED, f"{release.version} has run here before")
    words = f"{release.version} has never run here: that is a deployment, not a rollback."
    return Gate("promotion", title, Outcome.FAILED, words)


def has_run(environment_slug: str, release: Release) -> bool:
    """Whether this digest should run in the environment, or once should have.

    What somebody started there by hand, and a deployment only found, is not proven by that.
    """
    there = Placement.objects.filter(environment__slug=environment_slug, service=release.service, digest=release.digest)
    return there.exists() or _was_there(environment_slug, release)


def _was_there(environment_slug: str, release: Release) -> bool:
    came = Arrival.objects.filter(placement__environment__slug=environment_slug, placement__service=release.service)
    return came.filter(Q(digest=release.digest) | Q(over_digest=release.digest)).exists()


def _good(environment_slug: str, release: Release) -> QuerySet[Deployment]:
    return Deployment.objects.filter(
        environment__slug=environment_slug, release__service=release.service, operation__state=State.SUCCEEDED
    )


def _stays(environment_slug: str, release: Release, known: Known) -> list[timedelta]:
    """How long this digest was there, the last few times, as far as anybody can know.

    A stay begins when a deployment of the digest ends, and ends when the next deployment begins. An adoption, a restore
    or a failover changes the place without a deployment, and nobody knows when the digest went: so a stay counts only
    where the next deployment found the digest running, or where nothing else has changed the place since.
    """
    found: list[timedelta] = []
    began: datetime | None = None
    last = None
    for one in _deployed(environment_slug, release):
        stayed = began is not None and one.came_from == release.digest
        if began is not None and stayed:
            found.append(one.started - began)
        if one.digest != release.digest:
            began = None
        elif not stayed:
            began = one.finished
        last = one.operation
    there = known.there
    if there is not None and there.since:
        found.append(known.now - (began if began and there.changed_in == last else there.since))
    return found


def _deployed(environment_slug: str, release: Release) -> list[_Deployed]:
    good = _good(environment_slug, release).exclude(operation__started_at=None).exclude(operation__finished_at=None)
    names = ("operation__finished_at", "operation__started_at", "operation_id", "release__digest", "from_digest")
    return sorted(_Deployed(*values) for values in good.order_by("-pk").values_list(*names)[:LATELY])


def _words(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
