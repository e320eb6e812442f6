"""What a service of Amazon ECS runs beside what was deployed.

- image: the revision in service has another digest, or tasks got another one than the revision says.
- count: fewer tasks run than are asked for, while no rollout is under way.
- environment: somebody registered a revision by hand, with the same image and something else in it: it is compared
  with the revision that we registered for this digest, which is looked for among the few before it.

Which tasks a load balancer gets is seen to by ECS itself, so nothing is said of registration.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.operations.errors import StepError
from environments.drivers.base import Difference, Kept, Software, Target
from environments.drivers.ecs.driver import EcsDriver, instance_name, place_of
from environments.drivers.ecs.kept import kept_in_ecs
from environments.drivers.ecs.service import OPERATION, Definition, EcsService, State, revision_of, short
from environments.image_names import digest_in

LOOK_BACK = 5  # revisions, among which ours is looked for


class ComparableEcsDriver(EcsDriver):
    """See `base.Driver`, `base.Scalable`, `base.Comparable` and `base.Keeping`."""

    def differences(self, target: Target, deployed: Software) -> list[Difference]:
        """Of the service as a whole: ECS replaces its tasks as it likes."""
        service = EcsService.at(place_of(target))
        state = service.state()
        definition = service.definition(state.definition)
        name = instance_name(target)
        return [
            *_other_image(service, definition, name, deployed),
            *_other_count(state, name),
            *_other_environment(service, definition, name, deployed),
        ]

    def kept(self, target: Target, software: Software) -> Kept:
        """Whether its revision is active and its image in the registry."""
        return kept_in_ecs(place_of(target), software)


def _other_image(service: EcsService, definition: Definition, name: str, deployed: Software) -> Iterator[Difference]:
    wanted = f"{deployed.version} {deployed.digest}".strip()
    pinned = digest_in(definition.image)
    if pinned and pinned != deployed.digest:
        yield Difference("image", name, wanted, f"{definition.version} {pinned} ({short(definition.arn)})")
        return
    others = sorted(service.running_digests(definition.chosen["name"]) - {deployed.digest})
    if others and deployed.digest:
        yield Difference("image", name, wanted, f"tasks with {', '.join(others)}")


def _other_count(state: State, name: str) -> Iterator[Difference]:
    if state.others:
        return  # a rollout is under way: there are tasks of two revisions
    if state.desired == 0:
        yield Difference("count", name, "tasks run", "no task is asked for")
    elif state.running < state.desired:
        yield Difference("count", name, f"{state.desired} tasks run", f"{state.running} run")


def _other_environment(
    service: EcsService, definition: Definition, name: str, deployed: Software
) -> Iterator[Difference]:
    if digest_in(definition.image) != deployed.digest:
        return  # another image is said already, and its revision has no other of ours to be compared with
    ours = _ours(service, definition, deployed)
    if ours is not None and ours.shape != definition.shape:
        yield Difference("environment", name, f"{short(ours.arn)}, as it was deployed", _in_words(ours, definition))


def _ours(service: EcsService, definition: Definition, deployed: Software) -> Definition | None:
    """The revision that was registered from here for this digest, before the one that runs; None: that is ours."""
    mark, found = definition.labels.get(OPERATION, ""), None
    newest = revision_of(definition.arn) - 1
    for number in range(newest, max(0, newest - LOOK_BACK), -1):
        try:
            earlier = service.definition(f"{definition.family}:{number}")
        except StepError:
            continue  # somebody deleted it
        label = earlier.labels.get(OPERATION, "")
        if digest_in(earlier.image) == deployed.digest and label and label == (mark or label):
            found, mark = earlier, label
    return found


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
