"""Locks on environments: somebody's word that nothing may change here for now.

Who locks an environment, and who starts a change of it, hold its row meanwhile (`hold_still`): one of them is first,
and the audit trail says which.
"""

from collections.abc import Collection

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict
from controlplane.operations.transitions import said
from environments.models import Environment, EnvironmentLock


def hold_still(slugs: Collection[str]) -> list[Environment]:
    """These environments, with their rows held: nobody locks them until the caller's transaction ends.

    Take it before the locks are looked at; after the rows of operations and incidents, before the audit trail's lock.
    """
    return list(Environment.objects.select_for_update(no_key=True).filter(slug__in=slugs).order_by("pk"))


def take(actor: Actor, environment: Environment, reason: str) -> EnvironmentLock:
    """Lock the environment against changes. Raises Invalid without a reason, Conflict while the same lock holds."""
    reason = said(reason, "Say why: whoever wants to deploy will read it.")
    against, author = EnvironmentLock.Against.EVERYTHING, actor.who.name
    with transaction.atomic():
        hold_still([environment.slug])  # of two clicks one is the first
        same = EnvironmentLock.objects.filter(environment=environment, against=against, author_name=author)
        if same.filter(reason=reason, released_at=None).exists():
            raise Conflict("You have locked it already, for this very reason, and it is not released.")
        return put(actor.who, environment, reason, against)


def put(who: Who, environment: Environment, reason: str, against: EnvironmentLock.Against) -> EnvironmentLock:
    """The same for anybody, machines included. Call it in a transaction that holds the environment still, last."""
    lock = EnvironmentLock.objects.create(environment=environment, reason=reason, author_name=who.name, against=against)
    transaction.on_commit(lambda: ring("news", "environments"))
    scopes = [environment.slug]
    record(who, "environment.locked", f"environment {environment.slug}", scopes=scopes, reason=reason,
           data={"against": against})  # fmt: skip
    return lock


def release(actor: Actor, environment: Environment, lock_id: int) -> None:
    """End a lock; it stays in the history. Raises Conflict when somebody was first, or there is no such lock."""
    with transaction.atomic():
        if not lift(actor.who, environment, lock_id):
            raise Conflict("This lock has been released already.")


def lift(who: Who, environment: Environment, lock_id: int) -> bool:
    """The same for anybody; whether it was still there. Call it in a transaction, last."""
    lock = EnvironmentLock.objects.filter(pk=lock_id, environment=environment, released_at=None).first()
    still_open = EnvironmentLock.objects.filter(pk=lock_id, environment=environment, released_at=None)
    if lock is None or not still_open.update(released_at=Now(), released_by_name=who.name):
        return False
    transaction.on_commit(lambda: ring("news", "environments"))
    scopes, data = [environment.slug], {"lock": lock.reason, "taken by": lock.author_name}
    record(who, "environment.unlocked", f"environment {environment.slug}", scopes=scopes, data=data)
    return True
