"""What was there before: noted once, before anything is changed, so that no plan depends on its name."""

from collections.abc import Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.models import Operation
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext, StepFunction
from environments.drivers.kubernetes.api import Api, Object
from environments.drivers.kubernetes.compare import what_runs
from environments.drivers.kubernetes.objects import api_at, guarded, is_ours, replica_set_of


def noted(context: StepContext, place: Arguments, function: str, name: str) -> Any:
    """What the operation's last step of this function noted of the Deployment under that name; None for nothing."""
    operation = Operation.objects.only("plan").get(pk=context.operation_id)
    for step in operation.steps.order_by("-position"):
        step.operation = operation  # one plan in memory, not one a step
        spec = step.spec
        if (spec["function"], spec["arguments"].get("place")) == (function, place) and name in step.checkpoint:
            return step.checkpoint[name]
    return None


def former_of(context: StepContext, place: Arguments) -> str | None:
    """The ReplicaSet that was there before this operation changed anything, "" for none; None when nobody noted it."""
    found: str | None = noted(context, place, "kubernetes.former", "former")
    return found


def was_left(context: StepContext, place: Arguments, found: Object | None) -> bool:
    """This operation has not changed the Deployment, and no request of it is on its way."""
    return not is_ours(context, found) and not noted(context, place, "kubernetes.deployment", "meant")


def _note_former(context: StepContext, *, place: Arguments, document: Object, runs: Mapping[str, str]) -> None:
    """Before anything is changed: see that it is what the plan was made for, and note what there is to go back to."""
    with api_at(context, place) as api:
        found = guarded(context, api.find("Deployment", place["name"]))
        if "former" not in context.checkpoint:
            if found is not None:
                _check_container(found, document)
            _check_what_runs(what_runs(found, document, place["container"]), runs, place["name"])
            context.save_checkpoint(former=_name_of_replica_set(api, found))
    former = context.checkpoint["former"]
    context.log(f"{former or 'nothing'} is there for {place['name']}, which is what the plan was made for")


def _name_of_replica_set(api: Api, found: Object | None) -> str:
    return str(replica_set_of(api, found)["metadata"]["name"]) if found is not None else ""


def _check_what_runs(there: Mapping[str, str], runs: Mapping[str, str], name: str) -> None:
    """Raises StepError when what is there is not what the plan was made for."""
    # What only a tag names was told apart by its pods, which the plan has looked at.
    seen = {**there, "digest": there["digest"] or runs.get("digest", "")} if there else there
    if seen == runs:
        return
    said, planned = (" ".join(one.get(key, "") for key in ("version", "digest")).strip() or "nothing"
                     for one in (seen, runs))  # fmt: skip
    how = " with other settings or variables" if said == planned else ""
    words = f"{said}{how} is there for {name}, and the plan was made for {planned}. Ask for it again."
    raise StepError(words, permanent=True)


def check_former(context: StepContext, api: Api, found: Object | None, place: Arguments) -> None:
    """Raises StepError when what is there is not what was noted: it could not be gone back to."""
    former = former_of(context, place)
    if former is None:
        words = f"Nobody noted what was there for {place['name']}, so nothing could go back to it. Ask for it again."
        raise StepError(words, permanent=True)
    if (there := _name_of_replica_set(api, found)) != former:
        words = f"{there or 'Nothing'} is there for {place['name']} by now, and {former or 'nothing'} was before."
        raise StepError(f"{words} Ask for it again.", permanent=True)


def _check_container(found: Object, document: Object) -> None:
    names = [one["name"] for one in found["spec"]["template"]["spec"]["containers"]]
    ours = document["spec"]["template"]["spec"]["containers"][0]["name"]
    if ours not in names:
        words = f"Deployment {document['metadata']['name']} has no container {ours}: it has {', '.join(names)}."
        raise StepError(f"{words} Name one as container in the settings.", permanent=True)


STEPS = {"kubernetes.former": StepFunction(act=_note_former)}
