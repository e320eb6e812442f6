"""Objects of a cluster as steps look at them and change them.

How a late worker is kept from doing harm: every object carries the highest fence that acted on it, whoever finds a
higher one than its own stops at once, and every change names the resource version that was looked at, so that the API
server refuses it if anybody was there since. An object that is not there yet is made by POST, which only one can do.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from controlplane.operations.errors import LeaseLost, StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext
from environments.drivers.kubernetes.api import MAKING, MANAGER, MARKING, Api, Object
from environments.drivers.kubernetes.manifests import FENCE, OPERATION, REVISION, annotated, fence_of, marks_of


@contextmanager
def api_at(context: StepContext, place: Arguments) -> Iterator[Api]:
    """The API server of a place, for a block. Raises StepError."""

    def pause(seconds: float) -> None:
        context.wait(min(seconds, max(0.0, context.remaining())))
        context.check()

    with Api.at(place, pause) as api:
        context.mask(*api.secrets)
        yield api


def guarded(context: StepContext, found: Object | None) -> Object | None:
    """The same object. Raises LeaseLost for a worker that is too late for it."""
    if (fence := fence_of(found)) > context.fence:
        raise LeaseLost(f"fence {context.fence} is too late, {fence} was here")
    return found


def is_ours(context: StepContext, found: Mapping[str, Any] | None) -> bool:
    """This operation changed it last."""
    return found is not None and marks_of(found).get(OPERATION) == str(context.operation_id)


def is_applied(found: Mapping[str, Any]) -> bool:
    """Our manager has applied it, and who made it holds nothing of it any more."""
    entries = found["metadata"].get("managedFields") or []
    managers = {(one.get("manager"), one.get("operation")) for one in entries}
    return (MANAGER, "Apply") in managers and MAKING not in {name for name, _ in managers}


def mark(context: StepContext, api: Api, found: Object) -> Object:
    """Say on the object that was looked at that this operation was there, and change nothing else of it."""
    meta = found["metadata"]
    marks = {OPERATION: str(context.operation_id), FENCE: str(context.fence)}
    named = {key: meta[key] for key in ("name", "namespace", "resourceVersion")}
    context.check()
    document = {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": {**named, "annotations": marks}}
    return api.apply(document, force=True, manager=MARKING)


def put(context: StepContext, api: Api, document: Object, found: Object | None, *, force: bool) -> Object:
    """Make the object, or change the one that was looked at, and be the manager of what the document says."""
    marks = {OPERATION: str(context.operation_id), FENCE: str(context.fence)}
    marked = annotated(document, marks)
    if found is None:
        context.check()
        found = api.create(marked)
        if "spec" in marked:  # the number of pods is our other manager's
            marked = {**marked, "spec": {key: value for key, value in marked["spec"].items() if key != "replicas"}}
    metadata = {**marked["metadata"], "resourceVersion": found["metadata"]["resourceVersion"]}
    context.check()
    return api.let_go(api.apply({**marked, "metadata": metadata}, force=force))


def replica_set_of(api: Api, found: Object) -> Object:
    """The ReplicaSet of a Deployment's present template. Raises StepError while there is none yet."""
    meta = found["metadata"]
    seen = (found.get("status") or {}).get("observedGeneration", 0)
    labels = ",".join(f"{key}={value}" for key, value in found["spec"]["selector"].get("matchLabels", {}).items())
    if seen >= meta.get("generation", 0):
        revision = marks_of(found).get(REVISION, "")
        for one in api.listed("ReplicaSet", labelSelector=labels):
            owners = one["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == meta["uid"] for owner in owners) and marks_of(one).get(REVISION) == revision:
                return one
    raise StepError(f"The cluster has not taken up Deployment {meta['name']} as it is written yet.")
