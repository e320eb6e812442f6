"""Telling commits what became of their deployments, by GitHub's Deployments API. The clock calls `tell_due`.

1. Claim the notices whose operation stands elsewhere than what was told last, in one short statement: a lease, and this
   sender's name. What another clock works on is skipped.
2. Observe, act: the deployment there is looked for by the number of our operation before it is made, and its newest
   status before it is told, wherever an earlier try may have arrived. No transaction is open meanwhile.
3. Write down what was told, if the row is still ours; what failed is tried again later and later, until a day after
   the operation's end.

Nothing waits for this: not the operation, not its approvals, not the queue.
"""

import logging
import random
import time
from datetime import timedelta
from uuid import uuid4

from django.db import connection
from django.db.models.functions import Now

from controlplane.clock.database import database_time
from controlplane.live.ring import ring
from deployments.models import CommitNotice
from deployments.pipelines.github_calls import GitHub, GitHubError
from deployments.pipelines.telling import LAST, STATES

logger = logging.getLogger(__name__)

IN_A_TURN = 10
LEASE_SECONDS = 60
FIRST_WAIT, LONGEST_WAIT = 2.0, 600.0
GIVE_UP_AFTER = timedelta(days=1)

# The two lists are the states of operations and GitHub's word for each.
CLAIM = """
    UPDATE deployments_commitnotice notice
    SET sender = %s, attempts = notice.attempts + 1, lease_until = clock_timestamp() + make_interval(secs => %s)
    FROM (
        SELECT waiting.operation_id, word.word FROM deployments_commitnotice waiting
        JOIN operations_operation operation ON operation.id = waiting.operation_id
        JOIN unnest(%s::text[], %s::text[]) AS word (state, word) ON word.state = operation.state
        WHERE NOT waiting.done AND waiting.next_at <= clock_timestamp() AND waiting.told <> word.word
            AND (waiting.lease_until IS NULL OR waiting.lease_until < clock_timestamp())
        ORDER BY waiting.next_at LIMIT %s FOR UPDATE OF waiting SKIP LOCKED
    ) AS due
    WHERE notice.operation_id = due.operation_id
    RETURNING notice.operation_id, due.word
"""


def tell_due() -> int:
    """Tell what is due, at most a handful; returns how many notices were tried."""
    sender = uuid4().hex
    until = time.monotonic() + LEASE_SECONDS - 10
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [sender, LEASE_SECONDS, list(STATES), list(STATES.values()), IN_A_TURN])
        claimed: dict[int, str] = dict(cursor.fetchall())
    if not claimed:
        return 0
    related = CommitNotice.objects.select_related("operation", "pipeline")
    for notice in related.filter(pk__in=claimed, sender=sender).order_by("pk"):
        _tell(notice, claimed[notice.pk], until)
    ring("news", "operations")
    return len(claimed)


def _tell(notice: CommitNotice, state: str, until: float) -> None:
    ours = CommitNotice.objects.filter(pk=notice.pk, sender=notice.sender, lease_until__gt=Now())
    again = notice.attempts > 1
    try:
        if not notice.pipeline.status:
            raise GitHubError("The pipeline does not say any more how to tell commits.", permanent=True)
        there = GitHub(notice.pipeline, until)
        if not notice.remote:
            notice.remote = (there.find(notice) if again else "") or there.make(notice)
            ours.update(remote=notice.remote)
        if not (again and there.newest(notice.remote) == state):
            there.tell(notice.remote, state, notice)
    except GitHubError as error:
        _failed(notice, error)
        return
    except Exception as error:
        logger.exception("the commit of operation %d cannot be told", notice.pk)
        _failed(notice, GitHubError(f"It could not be told: {type(error).__name__}."))
        return
    said = {"state": state, "at": database_time().isoformat(timespec="seconds")}
    CommitNotice.objects.filter(pk=notice.pk, sender=notice.sender).update(
        told=state, history=[*notice.history, said], attempts=0, next_at=Now(), lease_until=None, error="",
        done=state in LAST,
    )  # fmt: skip


def _failed(notice: CommitNotice, error: GitHubError) -> None:
    wait = max(error.wait, min(FIRST_WAIT * 2 ** min(notice.attempts - 1, 20), LONGEST_WAIT)) * random.uniform(1.0, 1.3)  # noqa: S311 (many fail at once and need not come back at once)
    ended = notice.operation.finished_at
    given_up = error.permanent or (ended is not None and database_time() > ended + GIVE_UP_AFTER)
    CommitNotice.objects.filter(pk=notice.pk, sender=notice.sender).update(
        error=str(error)[:500], lease_until=None, done=given_up, next_at=Now() + timedelta(seconds=wait)
    )
