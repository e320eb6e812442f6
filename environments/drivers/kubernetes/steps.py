"""The steps of the kubernetes driver that change objects: each looks before it acts, and can be repeated."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import Seen, StepContext, StepFunction
from environments.drivers.kubernetes.api import COUNTING, MANAGER, Api, Object
from environments.drivers.kubernetes.fields import held_by
from environments.drivers.kubernetes.former import check_former
from environments.drivers.kubernetes.manifests import (
    CONFIGURATION,
    FENCE,
    OPERATION,
    VERSION,
    annotated,
    digest_of_image,
    secret,
    split,
    with_variables,
)
from environments.drivers.kubernetes.objects import api_at, guarded, is_applied, is_ours, put
from environments.drivers.telling import intend, tell_if_meant, tell_once
from environments.models import Environment
from environments.secrets import Variable, fingerprint, variables

APPLIED, STARTED, SCALED = "applied", "started", "scaled"


# --- Service, HorizontalPodAutoscaler -----------------------------------------------------------------


def _is_put(context: StepContext, *, place: Arguments, document: Object, force: bool) -> Seen:
    with api_at(context, place) as api:
        found = guarded(context, api.find(document["kind"], document["metadata"]["name"]))
    if found is None or not is_ours(context, found) or not is_applied(found):
        return Seen.NOT_DONE
    _tell(context, place, document)
    return Seen.DONE


def _put(context: StepContext, *, place: Arguments, document: Object, force: bool) -> None:
    with api_at(context, place) as api:
        found = guarded(context, api.find(document["kind"], document["metadata"]["name"]))
        put(context, api, document, found, force=force)
    _tell(context, place, document)


def _tell(context: StepContext, place: Arguments, document: Object) -> None:
    kind, name = document["kind"], document["metadata"]["name"]
    if not context.checkpoint.get("told"):
        context.log(f"applied {kind} {name}")
    tell_once(context, APPLIED, place["instance"], object=f"{kind} {name}")


# --- our Secret ---------------------------------------------------------------------------------------


def _variables(context: StepContext, place: Arguments, configuration: str) -> list[Variable]:
    """The environment's variables with every secret in place. Raises StepError when they are not those planned for."""
    owner = Environment.objects.get(slug=place["environment"])
    if configuration and configuration != fingerprint(owner):
        words = f"The configuration of {owner.slug} has changed since this was planned. Ask for it again."
        raise StepError(words, permanent=True)
    given = variables(owner)
    context.mask(*(one.value for one in given if one.secret))
    return given


def _secret(
    context: StepContext, place: Arguments, document: Object, configuration: str, elsewhere: Mapping[str, str]
) -> Object | None:
    _, hidden = split(_variables(context, place, configuration), elsewhere)
    return secret(document, configuration, hidden) if hidden else None


def _is_kept(context: StepContext, *, document: Object, force: bool, place: Arguments, **rest: Any) -> Seen:
    wanted = _secret(context, place, document, **rest)
    if wanted is None:
        context.log("no variable of ours is secret, so no Secret is needed")
        return Seen.DONE
    return _is_put(context, place=place, document=wanted, force=force)


def _keep(context: StepContext, *, document: Object, force: bool, place: Arguments, **rest: Any) -> None:
    wanted = _secret(context, place, document, **rest)
    if wanted is not None:
        context.log(
            f"Secret {wanted['metadata']['name']} with {', '.join(f'{key}=••••••••' for key in wanted['data'])}"
        )
        _put(context, place=place, document=wanted, force=force)


# --- the Deployment -----------------------------------------------------------------------------------


def _is_deployed(context: StepContext, *, place: Arguments, version: str, digest: str, **rest: Any) -> Seen:
    with api_at(context, place) as api:
        found = guarded(context, api.find("Deployment", place["name"]))
    if found is None or not is_ours(context, found) or not is_applied(found):
        return Seen.NOT_DONE
    if digest_of_image(found, place["container"]) != digest:
        return Seen.NOT_DONE
    tell_once(context, STARTED, place["instance"], version=version, digest=digest)
    return Seen.DONE


def _deploy(
    context: StepContext,
    *,
    place: Arguments,
    document: Object,
    version: str,
    digest: str,
    may_go_back: bool,
    configuration: str,
    elsewhere: Mapping[str, str],
    replicas: int,
    force: bool,
) -> None:
    """may_go_back: what is there has to be what was noted before; else it may be anything."""
    plain, hidden = split(_variables(context, place, configuration), elsewhere)
    filled = with_variables(document, plain, list(hidden), elsewhere, configuration)
    filled = annotated(filled, {VERSION: version, CONFIGURATION: configuration})
    with api_at(context, place) as api:
        found = guarded(context, api.find("Deployment", place["name"]))
        if may_go_back and not is_ours(context, found):
            check_former(context, api, found, place)
        if found is None:
            filled = {**filled, "spec": {**filled["spec"], "replicas": replicas}}
        elif "f:serviceAccountName" in held(found, "spec", "template", "spec"):
            filled = {
                **filled,
                "spec": {**filled["spec"], "template": with_no_account(filled["spec"]["template"], found)},
            }
        with _asking(context):
            put(context, api, filled, found, force=force)
    tell_once(context, STARTED, place["instance"], version=version, digest=digest)
    context.log(f"applied Deployment {place['name']} with {version} {digest}")


def held(found: Object, *path: str) -> Mapping[str, Any]:
    """What our manager holds there."""
    held: Mapping[str, Any] = held_by(found, MANAGER)
    for key in path:
        held = held.get(f"f:{key}") or {}
    return held


def with_no_account(template: Object, found: Object) -> Object:
    """The same; where it has no service account and the Deployment has one, both names of the field are emptied.

    The server keeps the former name of the field (`serviceAccount`) equal, and would bring the account back from it.
    """
    there, spec = found["spec"]["template"]["spec"], template["spec"]
    if not there.get("serviceAccountName") or spec.get("serviceAccountName"):
        return template
    return {**template, "spec": {**spec, "serviceAccountName": "", "serviceAccount": ""}}


@contextmanager
def _asking(context: StepContext) -> Iterator[None]:
    """Around a change. One that is refused is not meant any more, unless an earlier one got no answer."""
    is_first = not context.checkpoint.get("meant")
    intend(context)
    try:
        yield
    except StepError as error:
        if is_first and error.permanent:
            context.save_checkpoint(meant=False)
        raise


# --- its count ----------------------------------------------------------------------------------------


def _is_counted(
    context: StepContext, *, place: Arguments, replicas: int, force: bool, start: bool = False, least: bool = False
) -> Seen:
    """start: also what is scaled to 0. least: an autoscaler decides, and may have decided for more by now."""
    with api_at(context, place) as api:
        found = guarded(context, api.find("Deployment", place["name"]))
    now = found["spec"].get("replicas", 1) if found else None
    if now == 0 and replicas and not start:
        context.log(f"{place['name']} is scaled to 0 pods, and stays so", level="warning")
        return Seen.DONE
    if now != replicas and not (least and now and now > replicas):
        return Seen.NOT_DONE
    if context.checkpoint.get("meant"):
        tell_once(context, SCALED, place["instance"], count=replicas)
    return Seen.DONE


def _count(context: StepContext, *, place: Arguments, replicas: int, force: bool, **how: bool) -> None:
    with api_at(context, place) as api:
        set_replicas(context, api, place, replicas, force=force, asked=replicas)


def set_replicas(context: StepContext, api: Api, place: Arguments, replicas: int, *, force: bool, asked: int) -> None:
    """Give the Deployment that many pods. asked: how many the plan says. Raises StepError when there is none."""
    found = guarded(context, api.find("Deployment", place["name"]))
    if found is None:
        raise StepError(f"There is no Deployment {place['name']} to scale.", permanent=True)
    meta = {
        "name": place["name"],
        "namespace": place["namespace"],
        "resourceVersion": found["metadata"]["resourceVersion"],
        "annotations": {OPERATION: str(context.operation_id), FENCE: str(context.fence)},
    }
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}
    intend(context)
    api.apply(document, force=force, manager=COUNTING)
    tell_scaled(context, place, replicas, asked=asked)
    context.log(f"asked for {replicas} pods of {place['name']}")


def tell_scaled(context: StepContext, place: Arguments, replicas: int, *, asked: int) -> None:
    """Once, right after it was asked for, and where it is found and was meant."""
    facts: dict[str, Any] = {"allowed": replicas} if replicas != asked else {}
    tell_if_meant(context, SCALED, place["instance"], count=asked, **facts)


STEPS = {
    "kubernetes.secret": StepFunction(observe=_is_kept, act=_keep),
    "kubernetes.object": StepFunction(observe=_is_put, act=_put),
    "kubernetes.deployment": StepFunction(observe=_is_deployed, act=_deploy),
    "kubernetes.count": StepFunction(observe=_is_counted, act=_count),
}
