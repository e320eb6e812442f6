"""Going back, as `kubectl rollout undo` does: the former template is in the former ReplicaSet.

Its name is noted before anything is changed, and no plan depends on it. What it holds is never copied to the control
plane.
"""

from collections.abc import Mapping
from typing import Any

from controlplane.operations.errors import StepError, Unknown
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction
from environments.drivers.kubernetes.api import Api, Object
from environments.drivers.kubernetes.fields import beyond, unlike
from environments.drivers.kubernetes.former import former_of, was_left
from environments.drivers.kubernetes.manifests import (
    CONFIGURATION,
    HASH,
    VERSION,
    annotated,
    digest_of_image,
    marks_of,
    version_in,
)
from environments.drivers.kubernetes.objects import api_at, guarded, is_ours, mark, put
from environments.drivers.kubernetes.steps import STARTED, held, with_no_account
from environments.drivers.telling import intend, tell_once

STOPPED = "stopped"


def template_in(replica_set: Object) -> Object:
    """The template as the Deployment had it, without the label that the controller adds."""
    template = replica_set["spec"]["template"]
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH}
    return {**template, "metadata": {**meta, "labels": labels}}


def has_template(found: Object, template: Object) -> bool:
    """All that the template says is there, and nothing that we hold is there besides."""
    there = found["spec"]["template"]
    return not unlike(template, there) and not beyond(held(found, "spec", "template"), there, template)


def _is_back(context: StepContext, *, place: Arguments, runs: Mapping[str, str], **rest: Any) -> Seen:
    former = former_of(context, place)
    with api_at(context, place) as api:
        found = guarded(context, api.find("Deployment", place["name"]))
        if was_left(context, place, found):
            context.log(f"Deployment {place['name']} was not changed by this operation")
            return Seen.DONE
        if former is None:
            raise Unknown(f"Nobody noted which ReplicaSet {place['name']} had before. Look at it in the cluster.")
        if not former:
            return _is_removed(context, place, found)
        if found is None:
            raise Unknown(f"Deployment {place['name']} is gone. Look at it in the cluster.")
        kept = api.find("ReplicaSet", former)
    if kept is None:
        raise Unknown(f"ReplicaSet {former}, which has the former template, is gone. Look at {place['name']}.")
    same = has_template(found, template_in(kept))
    if not same and not is_ours(context, found):
        context.log(
            f"Deployment {place['name']} is not what this operation made, and is left as it is", level="warning"
        )
        return Seen.DONE
    # The mark alone has to be there too: a request of ours that is still on its way is refused from then on.
    if not same or not is_ours(context, found):
        return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        tell_once(context, STARTED, place["instance"], **_told_of(kept, place, runs))
    return Seen.DONE


def _told_of(kept: Object, place: Arguments, runs: Mapping[str, str]) -> dict[str, str]:
    """Version and digest of the former template; of one that only a tag names, the digest that its pods had."""
    digest = digest_of_image(kept, place["container"]) or runs["digest"]
    return {"version": version_in(kept, place["container"]), "digest": digest}


def _is_removed(context: StepContext, place: Arguments, found: Object | None) -> Seen:
    if found is not None and is_ours(context, found):
        return Seen.NOT_DONE
    if found is None and context.checkpoint.get("meant"):
        tell_once(context, STOPPED, place["instance"])
    return Seen.DONE


def _go_back(context: StepContext, *, place: Arguments, document: Object, runs: Mapping[str, str], force: bool) -> None:
    """Apply the former template; where there was no Deployment, delete the one that this operation made."""
    former = former_of(context, place)
    with api_at(context, place) as api:
        found = guarded(context, api.find("Deployment", place["name"]))
        if found is None:
            return
        if not former:
            _remove(context, api, place, found)
            return
        kept = api.find("ReplicaSet", former)
        if kept is None:
            raise StepError(f"ReplicaSet {former} has just gone.", permanent=True)
        template, told = template_in(kept), _told_of(kept, place, runs)
        if not is_ours(context, found) and has_template(found, template):
            mark(context, api, found)
            context.log(f"Deployment {place['name']} is as it was; what was asked and got no answer is refused by now")
            return
        marks = {VERSION: told["version"], CONFIGURATION: marks_of(template).get(CONFIGURATION, "")}
        spec = {**document["spec"], "template": with_no_account(template, found)}
        intend(context)
        after = put(context, api, annotated({**document, "spec": spec}, marks), found, force=force)
    if others := unlike(template, after["spec"]["template"]):
        words = f"Fields of Deployment {place['name']} keep it from being as it was before: {', '.join(others)}."
        raise StepError(f"{words} Look at it in the cluster.", permanent=True)
    tell_once(context, STARTED, place["instance"], **told)
    context.log(f"applied the template of {former} again: {told['version']}")


def _remove(context: StepContext, api: Api, place: Arguments, found: Object) -> None:
    if not is_ours(context, found):
        return
    intend(context)
    api.delete({"kind": "Deployment", **found})
    tell_once(context, STOPPED, place["instance"])
    context.log(f"deleted Deployment {place['name']}: there was none before")


STEPS = {"kubernetes.back": StepFunction(observe=_is_back, act=_go_back)}
