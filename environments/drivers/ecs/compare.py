"""What a service of Amazon ECS runs beside what was deployed.

- image: the revision in service has another digest, or tasks got another one than the revision says.
- count: somebody asked for another number of tasks, or fewer run than are asked for while no rollout is under way.
- environment: somebody registered a revision by hand, with the same image and something else in it.
- registration: a target group was taken off the service, or a task that runs gets no requests from it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from environments.drivers.base import Adoptable, Difference, Kept, PartlyUnknown, Running, Software, Target, Unheard
from environments.drivers.ecs.driver import EcsDriver
from environments.drivers.ecs.kept import kept_in_ecs
from environments.drivers.ecs.plan import RunningRevision, as_deployed
from environments.drivers.ecs.service import Definition, EcsService, State, short
from environments.drivers.ecs.settings import instance_name, place_of
from environments.drivers.ecs.standing import (
    changed_count,
    names_of,
    remembered,
    said,
    taken_off,
    unserved,
)
from environments.image_names import digest_in

NONE_ASKED_FOR = "no task is asked for"
ASKED_FOR = "are asked for"
TAKEN_OFF = "taken off the service"


class ComparableEcsDriver(EcsDriver):
    """See `base.Driver`, `base.Scalable`, `base.Comparable`, `base.Leaving` and `base.Keeping`."""

    def differences(self, target: Target, deployed: Software) -> list[Difference]:
        """Of the service as a whole: ECS replaces its tasks as it likes."""
        service = EcsService.at(place_of(target))
        state = service.state()
        definition = service.definition(state.definition)
        name = instance_name(target)
        seen = [
            *_other_image(service, definition, name, deployed),
            *_other_count(service, state, name, target.left),
            *_other_environment(service, definition, name, as_deployed(target, deployed.digest)),
            *_other_registration(service, state, name, target.left),
        ]
        found = [one for one in seen if isinstance(one, Difference)]
        if unheard := [one for one in seen if isinstance(one, Unheard)]:
            raise PartlyUnknown(found, unheard)
        return found

    def kept(self, target: Target, software: Software) -> Kept:
        """Whether its revision is active and its image in the registry."""
        return kept_in_ecs(place_of(target), software)

    def left(self, target: Target, noted: Iterable[tuple[Arguments, Arguments]]) -> Mapping[str, Any]:
        """What the steps noted that had to do with this service."""
        try:
            place = place_of(target)
        except StepError:
            return target.left  # it has settings that nobody could have deployed by
        notes = [kept["left"] for given, kept in noted if given.get("place") == place and "left" in kept]
        return remembered(target.left, notes)

    def adoptable(self, target: Target, running: list[Running]) -> Adoptable:
        """Its revision, its count and its load balancers, as they are."""
        (now,) = running
        if not isinstance(now, RunningRevision):
            raise TypeError("ecs adopts what ecs found")
        known, deployed = target.left, as_deployed(target, now.digest)
        changes = []
        if deployed.get("shape", now.shape) != now.shape:
            changes.append(
                {"what": "task definition", "from": short(deployed["definition"]), "to": short(now.reference)}
            )
        if now.deployed_count is not None or (now.count == 0 and "count" not in known):
            count = "some" if now.deployed_count is None else now.deployed_count
            changes.append({"what": "tasks", "from": f"{count} asked for", "to": f"{now.count} asked for"})
        if taken_off(known, now.balancers):
            changes.append(
                {"what": "load balancers", "from": names_of(known["balancers"]), "to": names_of(now.balancers)}
            )
        left = {
            "digest": digest_in(now.image),
            "definition": now.reference,
            "shape": now.shape,
            # What Auto Scaling chose is not what somebody wants to keep.
            "count": known.get("count", now.count) if now.deployed_count is None else now.count,
            "balancers": list(now.balancers),
        }
        return Adoptable(left, tuple(changes))

    def may_be_adopted(self, difference: Difference) -> bool:
        """Whether it is something that somebody asked ECS for, and not something that is missing."""
        asked = (NONE_ASKED_FOR, TAKEN_OFF)
        return difference.what == "environment" or difference.found.endswith((*asked, ASKED_FOR))


def _other_image(service: EcsService, definition: Definition, name: str, deployed: Software) -> Iterator[Difference]:
    wanted = f"{deployed.version} {deployed.digest}".strip()
    pinned = digest_in(definition.image)
    if pinned and pinned != deployed.digest:
        yield Difference("image", name, wanted, f"{definition.version} {pinned} ({short(definition.arn)})")
        return
    others = sorted(service.running_digests(definition.chosen["name"]) - {deployed.digest})
    if others and deployed.digest:
        yield Difference("image", name, wanted, f"tasks with {', '.join(others)}")


def _other_count(
    service: EcsService, state: State, name: str, left: Mapping[str, Any]
) -> Iterator[Difference | Unheard]:
    asked = f"{state.desired} {ASKED_FOR}" if state.desired else NONE_ASKED_FOR
    try:
        count = changed_count(service, state, left)
    except StepError as error:
        count = None if state.desired else left["count"]
        if state.desired:
            yield Unheard(name, f"count: {error}", "count")
    if count is not None:
        yield Difference("count", name, f"{count} tasks {ASKED_FOR}", asked)
    elif not state.desired and "count" not in left:
        yield Difference("count", name, "tasks run", asked)
    if not state.others and state.running < state.desired:  # in a rollout there are tasks of two revisions
        yield Difference("count", name, f"{state.desired} tasks run", f"{state.running} run")


def _other_environment(
    service: EcsService, definition: Definition, name: str, deployed: Mapping[str, Any]
) -> Iterator[Difference]:
    if deployed.get("shape", definition.shape) == definition.shape:
        return
    try:
        ours = service.definition(deployed["definition"])
        said_of = _in_words(ours, definition)
    except StepError:
        said_of = f"{short(definition.arn)}, which is another"  # somebody deleted the one that was deployed
    yield Difference("environment", name, f"{short(deployed['definition'])}, as it was deployed", said_of)


def _other_registration(
    service: EcsService, state: State, name: str, left: Mapping[str, Any]
) -> Iterator[Difference | Unheard]:
    for one in taken_off(left, state.balancers):
        yield Difference("registration", name, f"in {said(one)}", TAKEN_OFF)
    try:
        for group, words in unserved(service, state):
            yield Difference("registration", name, f"in {group}", words)
    except StepError as error:
        yield Unheard(name, f"registration: {error}", "registration")


def _in_words(ours: Definition, other: Definition) -> str:
    """Which parts differ, by name: of variables never the value."""
    before, after = ours.request("", {}), other.request("", {})
    names = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    parts = [key for key in names if key not in ("containerDefinitions", "taskDefinitionArn", "revision", "tags")]
    parts += [f"{key} of {ours.chosen['name']}" for key in _keys_that_differ(ours.chosen, other.chosen)]
    variables = _keys_that_differ(_variables(ours), _variables(other))
    said = ", ".join(parts) or "other containers"
    return f"{short(other.arn)} with other {said}" + (f" (variables: {', '.join(variables)})" if variables else "")


def _keys_that_differ(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    ignored = ("image", "dockerLabels")
    return [key for key in sorted({*before, *after}) if key not in ignored and before.get(key) != after.get(key)]


def _variables(definition: Definition) -> dict[str, str]:
    return {str(one["name"]): str(one.get("value", "")) for one in definition.chosen.get("environment", [])}
