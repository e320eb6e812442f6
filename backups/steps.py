"""What the steps of a backup do: look, take, discard. A backup changes nothing, so a mistake of ours fails it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import InterfaceError, OperationalError

from backups.engines import ENGINES
from backups.jobs import fingerprint, job_of, key_of, load_policy, store_of
from backups.manifest import NAME, encoded, manifest_of, problem_with_objects, read_manifest
from backups.models import Policy
from backups.storage.base import Store
from controlplane.clock.database import database_time
from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.models import Step
from controlplane.operations.registry import Seen, StepContext, StepFunction, Verdict, failed, passed

logger = logging.getLogger(__name__)


@contextmanager
def no_doubt(what: str) -> Iterator[None]:
    """For steps that change nothing anybody uses: what is unexpected fails them, and no person has to be asked."""
    try:
        yield
    except (StepError, Unknown, OperationalError, InterfaceError):
        raise
    except psycopg.OperationalError as error:  # of a source, or of a scratch: our own database's are Django's
        raise StepError(f"The connection to a database was lost at {what}: {' '.join(str(error).split())}") from error
    except Exception as error:
        logger.exception("%s", what)
        raise StepError(f"unexpected {type(error).__name__} at {what}: {error}", permanent=True) from error


def _policy(name: str, version: str) -> Policy:
    policy = load_policy(name)
    if fingerprint(policy) != version:
        raise StepError(f"The policy {name} was changed meanwhile. Start the backup again.", permanent=True)
    return policy


def _look(context: StepContext, *, policy: str, version: str) -> None:
    """Nothing is written: is everything there that the backup will need?"""
    with no_doubt(f"looking at {policy}"):
        found = _policy(policy, version)
        job = job_of(found, key_of(found, context.operation_id, context.fence, database_time()))
        ENGINES[found.kind].look(job, context)
        if words := job.store.problem():
            raise StepError(words)


def _observe_take(context: StepContext, *, policy: str, version: str) -> Seen:
    """A manifest is written last: where one stands, the backup is whole."""
    if "manifest" in context.checkpoint:
        return Seen.DONE
    keys = context.checkpoint.get("keys", [])
    if not keys:
        return Seen.NOT_DONE
    with no_doubt(f"looking for the backup of {policy}"):
        store = store_of(_policy(policy, version))
        if store.head(keys[-1] + NAME) is None:
            return Seen.NOT_DONE
        context.save_checkpoint(manifest=read_manifest(store, keys[-1]))
    return Seen.DONE


def _take(context: StepContext, *, policy: str, version: str) -> None:
    """Into a folder of this try's own; what earlier tries left is removed first, so that they cannot go on either."""
    with no_doubt(f"the backup of {policy}"):
        found = _policy(policy, version)
        store = store_of(found)
        discard(store, context.checkpoint.get("keys", []))
        started = database_time()
        key = key_of(found, context.operation_id, context.fence, started)
        context.save_checkpoint(keys=[*context.checkpoint.get("keys", []), key])
        job = job_of(found, key)
        context.progress(0, 0, "")
        taken = ENGINES[found.kind].take(job, context)
        manifest = manifest_of(job, taken, kind=found.kind, operation=context.operation_id,
                               started_at=started, finished_at=database_time())  # fmt: skip
        context.check()
        store.put(key + NAME, [encoded(manifest)], check=context.check)
        context.save_checkpoint(manifest=manifest)
        context.log(f"{len(taken.objects)} objects, {sum(one.size for one in taken.objects)} bytes, at {key}")


def _verify_take(context: StepContext, *, policy: str, version: str) -> Verdict:
    """The storage has each object in its full size. Whether it restores, only a restore test can say."""
    manifest = context.checkpoint["manifest"]
    with no_doubt(f"reading back the backup of {policy}"):
        words = problem_with_objects(store_of(_policy(policy, version)), manifest)
    return failed(words) if words else passed()


def _discard(context: StepContext, *, policy: str, step: str) -> None:
    keys = Step.objects.get(operation=context.operation_id, key=step).checkpoint.get("keys", [])
    with no_doubt(f"removing what is left of the backup of {policy}"):
        context.check()
        discard(store_of(load_policy(policy)), keys)


def discard(store: Store, keys: list[str]) -> None:
    """Remove whatever is below these folders, the manifest first: without one, nothing counts as a backup."""
    for key in keys:
        store.abandon(key)
        there = [entry.key for entry in store.list(key)]
        store.delete([one for one in there if one == key + NAME])
        store.delete([one for one in there if one != key + NAME])


STEPS = {
    "backups.look": StepFunction(act=_look),
    "backups.take": StepFunction(act=_take, observe=_observe_take, verify=_verify_take),
    "backups.discard": StepFunction(act=_discard),
}
