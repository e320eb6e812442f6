"""The ecs driver: a service of Amazon ECS gets a new revision of its task definition, with the image by digest.

What the guide's deploy job does (update-service, wait until stable, ask /health), by steps that can be repeated:

1. register a copy of the revision that runs, with the image replaced, marked with the operation's number;
2. update the service to it, guarded by ECS's circuit breaker;
3. wait until it is stable, as `aws ecs wait services-stable` does, and tell what ECS says meanwhile;
4. check health. If 2, 3 or 4 fail, the service is updated back to the revision that ran before.

A plan names the revision that runs by what is in it, not by its number: one that waits behind another deployment
stays true. The number is noted by the first step, before anything is changed. docs/drivers-ecs.md has the rest.
"""

import json
from collections.abc import Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import ALREADY
from controlplane.operations.registry import StepFunction
from environments.drivers.base import Document, Rollout, Running, Scaling, Software, Target
from environments.drivers.ecs import plan, standing
from environments.drivers.ecs.plan import RunningRevision
from environments.drivers.ecs.scale import STEPS as SCALING_STEPS
from environments.drivers.ecs.service import VERSION, EcsService
from environments.drivers.ecs.settings import instance_name, place_of, problems, setting
from environments.drivers.ecs.steps import STEPS
from environments.image_names import digest_in, repository_of


class EcsDriver:
    """See `base.Driver`."""

    name = "ecs"
    addressed = False

    def __init__(self) -> None:
        self.steps: Mapping[str, StepFunction] = {**STEPS, **SCALING_STEPS}

    def running(self, target: Target) -> list[Running]:
        """What the service runs, as one row. reference: the revision's ARN, which no deployment's plan depends on."""
        service = EcsService.at(place_of(target))
        state = service.state()
        definition = service.definition(state.definition)
        digest = digest_in(definition.image)
        if not digest:
            digests = service.running_digests(definition.chosen["name"])
            digest = digests.pop() if len(digests) == 1 else ""
        return [
            RunningRevision(
                instance_name(target), definition.version, digest, definition.image, definition.arn,
                family=definition.family, shape=definition.shape, count=state.desired, balancers=state.balancers,
                deployed_count=standing.deployed_count(service, state, target.left),
                anew=standing.why_anew(service, state),
            )
        ]  # fmt: skip

    def rollout(self, target: Target, running: list[Running], to: Software) -> Rollout:
        """A new revision, or with `force_new_deployment` the same one again, whose tag decides what comes.

        Where the release runs already, what differs from how it was deployed is put back.
        """
        now = running[0]
        if not isinstance(now, RunningRevision):
            raise TypeError("ecs plans from what ecs found")
        if setting(target, "force_new_deployment"):
            return plan.forced(target, now, to)
        if now.digest and now.digest == to.digest:
            back = plan.restoration(target, now, to)
            return back or Rollout((), (), ({"what": now.instance, "from": plan.named(now), "to": ALREADY},))
        return plan.renewal(target, now, to)

    def scale(self, target: Target, count: int, software: Software | None, *, key: str) -> Scaling:
        """The steps to so many tasks; see `base.Scalable`. Software without a digest leaves the image as it is."""
        return plan.scaling(target, count, software if count else None, key)

    def documents(self, target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        """The task definition that would be registered: what is in service now, with the release's image.

        With `force_new_deployment` none is: the one in service stays as it is, and so it is shown. Its variables are
        its own, secrets by reference; those of the environment are not among them.
        """
        service = EcsService.at(place_of(target))
        definition = service.definition(service.state().definition)
        content = definition.content
        if not setting(target, "force_new_deployment"):
            image = f"{repository_of(software.image or definition.image)}@{software.digest}"
            content = definition.request(image, {VERSION: software.version})
        request = service.as_sent(content)
        return [Document("task-definition.json", json.dumps(request, indent=2, sort_keys=True, default=str) + "\n")]

    def check_settings(self, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with driver settings, in words, by key."""
        return problems(given)

    def address_for(self, environment: str, instance: str) -> str:
        """ECS gives out none: a service answers at its environment's URL. Raises StepError."""
        words = f"A service of ECS has no address for {instance}: leave it out, and give {environment} its url."
        raise StepError(words, permanent=True)
