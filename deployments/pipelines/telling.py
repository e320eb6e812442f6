"""What commits are to be told: written with the deployment, told by the clock (`pipelines/github.py`)."""

import re

from controlplane.operations.models import Operation
from controlplane.operations.states import State
from deployments.models import CommitNotice, Pipeline, Release
from environments.models import Environment

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

# GitHub's word for each state of an operation.
STATES: dict[str, str] = {
    State.AWAITING_APPROVAL: "queued",
    State.SCHEDULED: "queued",
    State.QUEUED: "queued",
    State.RUNNING: "in_progress",
    State.CANCELLING: "in_progress",
    State.NEEDS_OPERATOR: "in_progress",
    State.SUCCEEDED: "success",
    State.FAILED: "failure",
    State.CANCELLED: "error",
    State.REJECTED: "error",
    State.EXPIRED: "error",
    State.STALE: "error",
}
LAST = frozenset({"success", "failure", "error"})


def follow(operation: Operation, release: Release, environment: Environment) -> None:
    """Have the commit of the release told what becomes of the operation, if a pipeline says how; one query or three.

    Call it in the transaction that asks for the operation. The pipeline is the one whose run reported the release, else
    the first one for its service.
    """
    if not COMMIT.fullmatch(release.commit):
        return
    telling = Pipeline.objects.filter(paused=False, services__contains=[release.service.slug]).exclude(status={})
    reported = telling.filter(reports__release=release).first()
    pipeline = reported or telling.first()
    if pipeline is not None:
        CommitNotice.objects.create(
            operation=operation, pipeline=pipeline, sha=release.commit, environment=environment.slug
        )
