"""How a service stands beside what was deployed: its count, its load balancers, and which tasks they know.

What was deployed is remembered when a deployment ends (`left`, plain data):

    digest, definition, shape    the image, the revision's ARN, and a digest of all else in it
    count                        how many tasks were asked for; a deployment leaves it as it is, and so does the memory
    balancers                    those of the service, likewise

A count within what Application Auto Scaling may choose is nobody's hand. Which target a task is: in the network mode
awsvpc its own address with the container's port, else its computer with the port that the computer gave it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from controlplane.operations.registry import StepContext
from environments.aws import READ_ATTEMPTS, in_words, other
from environments.drivers.ecs.service import Definition, EcsService, State, short
from environments.image_names import digest_in

NOT_ALL_RUN = "not all tasks run"
NOT_ALL_REGISTERED = "not all tasks are registered"
GROUP = "targetGroupArn"
# States of a target that is served, or about to be.
SERVED = ("initial", "healthy", "unavailable")
DIMENSION = "ecs:service:DesiredCount"

Address = tuple[str, int]


# --- what is remembered -------------------------------------------------------------------------------


def note_left(context: StepContext, state: State, definition: Definition, *, scaled: bool = False) -> None:
    """Keep with the step how the service was left. scaled: the step has set its count."""
    context.save_checkpoint(left={**as_it_is(state, definition), "scaled": scaled})


def as_it_is(state: State, definition: Definition) -> Arguments:
    """All that is remembered of a service, as it is now."""
    return {
        "digest": digest_in(definition.image),
        "definition": definition.arn,
        "shape": definition.shape,
        "count": state.desired,
        "balancers": list(state.balancers),
    }


def remembered(before: Mapping[str, Any], notes: Iterable[Mapping[str, Any]]) -> Arguments:
    """What is remembered after a deployment that noted these. Pure.

    Its revision counts; count and load balancers only where none were known, or where the count was set. That there
    were no tasks at all is nothing to put back to, unless somebody adopted it.
    """
    known = dict(before)
    for note in notes:
        known |= {key: note[key] for key in ("digest", "definition", "shape")}
        known.setdefault("balancers", note["balancers"])
        if note["count"] and (note["scaled"] or "count" not in known):
            known["count"] = note["count"]
    return known


def taken_off(left: Mapping[str, Any], balancers: Iterable[Arguments]) -> tuple[Arguments, ...]:
    """Load balancers that it had when it was deployed and has no more. Pure."""
    there = [_group(one) for one in balancers]
    return tuple(one for one in left.get("balancers", ()) if _group(one) not in there)


def names_of(balancers: Iterable[Arguments]) -> str:
    """Target groups in words."""
    return ", ".join(sorted(map(said, balancers))) or "none"


def said(balancer: Arguments) -> str:
    """The readable end of its ARN, "targetgroup/web/6d0e…"; a classic load balancer's name."""
    return _group(balancer).rpartition(":")[2]


def _group(balancer: Arguments) -> str:
    return str(balancer.get(GROUP) or balancer.get("loadBalancerName", ""))


# --- the count ----------------------------------------------------------------------------------------


def deployed_count(service: EcsService, state: State, left: Mapping[str, Any]) -> int | None:
    """How many tasks were asked for when it was deployed, where somebody asks for another number by hand; else None.

    Where nobody may ask what scales it, a service with no tasks at all is taken for one that somebody stopped.
    """
    try:
        return changed_count(service, state, left)
    except StepError:
        return int(left["count"]) if state.desired == 0 else None


def changed_count(service: EcsService, state: State, left: Mapping[str, Any]) -> int | None:
    """The same. Raises StepError when it cannot be asked what scales the service."""
    count = left.get("count")
    if count in (None, state.desired) or _scales_itself(service, state.desired):
        return None
    return int(count or 0)


def _scales_itself(service: EcsService, count: int) -> bool:
    """Whether Application Auto Scaling may have chosen that count."""
    name = f"service/{short(service.cluster)}/{short(service.service)}"
    with in_words("application-autoscaling:DescribeScalableTargets", service.words):
        answer = other("application-autoscaling", service.account, READ_ATTEMPTS).describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[name], ScalableDimension=DIMENSION
        )
    return any(one["MinCapacity"] <= count <= one["MaxCapacity"] for one in answer["ScalableTargets"])


# --- who is registered --------------------------------------------------------------------------------


def why_anew(service: EcsService, state: State) -> str:
    """Why its tasks have to be started anew: not all run, or not all are registered; "" for no reason known."""
    if state.others:
        return ""  # a rollout is under way
    if state.running < state.desired:
        return NOT_ALL_RUN
    try:
        return NOT_ALL_REGISTERED if unserved(service, state) else ""
    except StepError:
        return ""  # that it is not known is said where differences are


def unserved(service: EcsService, state: State) -> list[tuple[str, str]]:
    """Of each task that runs and gets no requests: from which load balancer, and why, in words. Raises StepError."""
    if state.others:
        return []
    return [found for one in state.balancers if one.get(GROUP) for found in _unserved_by(service, one)]


def _unserved_by(service: EcsService, balancer: Arguments) -> Iterator[tuple[str, str]]:
    tasks = _addresses(service, balancer)
    if not tasks:
        return
    targets = _targets(service, balancer)
    missed = {task: at for task, at in tasks.items() if at not in targets or targets[at]["State"] not in SERVED}
    if not missed:
        return
    still = _addresses(service, balancer)  # one that was told to stop meanwhile was rightly taken out
    for task, (host, port) in sorted(missed.items()):
        if task not in still:
            continue
        health = targets.get((host, port))
        words = "is not registered"
        if health:
            words = "is registered but " + ", ".join(filter(None, (health["State"], health.get("Description", ""))))
        yield said(balancer), f"task {short(task)} ({host}:{port}) {words}"


def _targets(service: EcsService, balancer: Arguments) -> dict[Address, Mapping[str, str]]:
    group = balancer[GROUP]
    with in_words("elasticloadbalancing:DescribeTargetHealth", said(balancer)):
        answer = other("elbv2", service.account, READ_ATTEMPTS).describe_target_health(TargetGroupArn=group)
    rows = answer["TargetHealthDescriptions"]
    return {(row["Target"]["Id"], int(row["Target"].get("Port", 0))): row["TargetHealth"] for row in rows}


def _addresses(service: EcsService, balancer: Arguments) -> dict[str, Address]:
    """Which target each task is that runs; before that, and on its way out, a task need not be registered."""
    found: dict[str, Address] = {}
    computers: dict[str, str] | None = None
    tasks = [one for one in service.tasks("RUNNING") if one.get("lastStatus") == "RUNNING"]
    for task in tasks:
        parts = [one for one in task.get("containers", []) if one["name"] == balancer.get("containerName")]
        port = int(balancer.get("containerPort", 0))
        for own in (one.get("privateIpv4Address") for part in parts for one in part.get("networkInterfaces", [])):
            if own:
                found[task["taskArn"]] = str(own), port
        for bound in (one for part in parts for one in part.get("networkBindings", [])):
            if bound.get("containerPort") == port:
                computers = service.computers(tasks) if computers is None else computers
                computer = computers.get(task.get("containerInstanceArn", ""), "")
                found[task["taskArn"]] = computer, int(bound["hostPort"])
    return found
