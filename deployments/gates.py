"""What must hold before a release may go to an environment: each gate says why, and what would help."""

from controlplane.operations.gates import Gate, Outcome
from controlplane.operations.models import OperationLock
from controlplane.operations.states import State
from deployments.models import Deployment, Release
from environments.models import Environment, EnvironmentLock, Placement


def gates_for(environment: Environment, release: Release, *, kind: str, operation_id: int | None = None) -> list[Gate]:
    """All gates of a deployment, in the order people ask for them. operation_id: the one they are asked for."""
    rollback = kind == Deployment.Kind.ROLLBACK
    return [
        *([ran_before(environment, release)] if rollback else promotion(environment, release)),
        *([] if rollback else [ci_passed(environment, release)]),
        not_locked(environment, rollback=rollback),
        nobody_else(environment, operation_id),
    ]


def promotion(environment: Environment, release: Release) -> list[Gate]:
    """The very digest has run in the environment before this one (the guide: staging is pre-production testing)."""
    if not environment.promoted_from:
        return []
    before = environment.promoted_from
    title = f"Has run in {before}"
    if has_run(before, release):
        return [Gate("promotion", title, Outcome.PASSED, f"{release.version} with this digest has run in {before}")]
    words = f"{release.version} has not run in {before} yet. Deploy it there first."
    return [Gate("promotion", title, Outcome.FAILED, words)]


def ran_before(environment: Environment, release: Release) -> Gate:
    """A rollback goes to something that has run right here."""
    title = f"Has run in {environment.slug}"
    if has_run(environment.slug, release):
        return Gate("promotion", title, Outcome.PASSED, f"{release.version} has run here before")
    words = f"{release.version} has never run here: that is a deployment, not a rollback."
    return Gate("promotion", title, Outcome.FAILED, words)


def has_run(environment_slug: str, release: Release) -> bool:
    """Whether this digest runs in the environment or a deployment brought or replaced it there."""
    if Placement.objects.filter(
        environment__slug=environment_slug, service=release.service, digest=release.digest
    ).exists():
        return True
    good = Deployment.objects.filter(
        environment__slug=environment_slug, release__service=release.service, operation__state=State.SUCCEEDED
    )
    return good.filter(release__digest=release.digest).exists() or good.filter(from_digest=release.digest).exists()


def ci_passed(environment: Environment, release: Release) -> Gate:
    """The guide's pipeline: tests pass before anything is deployed."""
    title = "CI passed"
    if release.ci == Release.CI.PASSED:
        return Gate("ci", title, Outcome.PASSED, f"all checks of {release.version} passed")
    if release.ci == Release.CI.PENDING:
        return Gate("ci", title, Outcome.PENDING, f"the checks of {release.version} are still running")
    if release.ci == Release.CI.FAILED:
        words = f"the checks of {release.version} failed. Mend it and build a new release."
        return Gate("ci", title, Outcome.FAILED, words)
    if environment.approvals_required == 0:
        return Gate("ci", title, Outcome.PASSED, "not known, and not asked for here")
    return Gate("ci", title, Outcome.FAILED, f"nobody said how the checks of {release.version} ended.")


def not_locked(environment: Environment, *, rollback: bool = False) -> Gate:
    """Nobody has said that nothing may change here. What an incident locks is still open for the way back."""
    locks = EnvironmentLock.objects.filter(environment=environment, released_at=None)
    if rollback:
        locks = locks.exclude(against=EnvironmentLock.Against.DEPLOYMENTS)
    lock = locks.first()
    if lock is None:
        return Gate("lock", "No lock", Outcome.PASSED, f"{environment.slug} is not locked")
    words = f"locked by {lock.author_name}: {lock.reason}. It can be released on the page of {environment.slug}."
    return Gate("lock", "No lock", Outcome.FAILED, words)


def nobody_else(environment: Environment, operation_id: int | None) -> Gate:
    """One change at a time: the next one waits in the queue."""
    held = OperationLock.objects.filter(name=environment.slug).exclude(operation_id=operation_id or 0)
    lock = held.select_related("operation").first()
    title = "Nobody else is changing it"
    if lock is None:
        return Gate("busy", title, Outcome.PASSED, f"nothing else is under way in {environment.slug}")
    words = f"operation {lock.operation_id} is under way ({lock.operation.title}); this one waits in the queue"
    return Gate("busy", title, Outcome.PENDING, words, turn=True)
