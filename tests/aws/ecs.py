"""What moto leaves out of ECS: rollouts take a while, hang, fail the circuit breaker, and leave events behind.

The clock is the number of times somebody asks: each DescribeServices is one tick. Nothing here sleeps. Once the cloud
has a virtual time (`keep_time`), tasks take their seconds to start and to stop instead.
"""

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

Json = dict[str, Any]
Ask = Callable[[str, Json], Json]  # asks moto itself: action, body → answer

PULL_ERROR = "CannotPullContainerError: image manifest not found"
COMPUTER, FIRST_PORT, PORT = "i-0123456789abcdef0", 32768, 3000
FIRST_DAY = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


class Fate(Enum):
    """How a rollout goes."""

    COMPLETES = "completes"
    HANGS = "hangs"
    FAILS = "fails"  # and the circuit breaker goes back


@dataclass
class Rollout:
    """One deployment of a service. age: ticks since it began. digest: what its tasks pulled."""

    identity: str
    definition: str
    fate: Fate
    digest: str
    created: float
    age: int = 0
    running: int = 0
    # When the last change of what is wanted was, in virtual seconds.
    since: float = 0.0
    state: str = "IN_PROGRESS"
    reason: str = "in progress"


@dataclass
class Service:
    """A service over time. rollouts and events: the newest first. stopped: why tasks of it stopped lately."""

    name: str
    desired: int
    configuration: Json
    rollouts: list[Rollout] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    balancers: list[Json] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    @property
    def primary(self) -> Rollout:
        """The rollout that is under way, or was the last."""
        return self.rollouts[0]

    @property
    def remaining(self) -> int:
        """Tasks that run and are not on their way out."""
        return min(self.primary.running, self.desired) + sum(one.running for one in self.rollouts[1:])

    @property
    def leaving(self) -> int:
        """Tasks that were told to stop and still run."""
        return max(0, self.primary.running - self.desired)


class Ecs:
    """All services, by cluster and name. What a test sets holds until `reset`.

    polls: ticks a rollout takes. fates: those of the next rollouts; after them, all complete.
    shows_failure: ticks a failed rollout is seen as such before the breaker goes back; None: it never does.
    tags: the digest each image name without digest points to now.
    blocked: why no task starts, "" when they do; only over virtual time.
    bridged: tasks share the address of their computer, instead of having one of their own.
    """

    def __init__(
        self, region: str = "us-east-1", register: Callable[[str, list[tuple[str, int]]], None] = lambda *all: None
    ) -> None:
        """register: called with a target group and all that is to be in it, whenever a rollout has come to its end."""
        self.region = region
        self._register = register
        self.reset()

    def reset(self) -> None:
        """A new world."""
        self._now: Callable[[], float] | None = None
        self.blocked = ""
        self.bridged = False
        self.polls = 3
        self.fates: deque[Fate] = deque()
        self.shows_failure: int | None = 0
        self.tags: dict[str, str] = {}
        self.services: dict[tuple[str, str], Service] = {}
        self._numbers = itertools.count(1)

    def keep_time(self, now: Callable[[], float], start_seconds: float, stop_seconds: float) -> None:
        """Tasks take so many seconds to start and to stop; now: virtual seconds."""
        self._now, self.start_seconds, self.stop_seconds = now, start_seconds, stop_seconds

    def answer(self, action: str, body: Json, answer: Json, ask: Ask) -> Json:
        """Moto's answer to an action, with time played into it."""
        match action:
            case "DescribeServices":
                for one in answer["services"]:
                    service = self._service(one, ask)
                    self._tick(service)
                    self._overlay(service, one)
            case "CreateService":
                self._service(answer["service"], ask)
            case "UpdateService":
                one = answer["service"]
                service = self._service(one, ask)
                self._update(service, body, ask)
                self._overlay(service, one)
            case "ListTaskDefinitions" if body.get("sort") == "DESC":
                answer["taskDefinitionArns"].sort(key=lambda arn: int(arn.rpartition(":")[2]), reverse=True)
        return answer

    def own_answer(self, action: str, body: Json) -> Json | None:
        """Answers to what moto does not play at all: the tasks of a service."""
        if action == "ListTasks":
            asked = body["cluster"].rpartition("/")[2], body["serviceName"]
            cluster, name = next(key for key in self.services if key == asked)
            service, status = self.services[cluster, name], body["desiredStatus"]
            self._tick(service)
            count = service.remaining if status == "RUNNING" else len(service.stopped) + service.leaving
            prefix = f"arn:aws:ecs:{self.region}:123456789012:task/{cluster}/{name}/{status}"
            return {"taskArns": [f"{prefix}/{number}" for number in range(count)]}
        if action == "DescribeTasks":
            return {"tasks": [self._task(arn) for arn in body["tasks"]], "failures": []}
        if action == "DescribeContainerInstances":
            computers = [{"containerInstanceArn": arn, "ec2InstanceId": COMPUTER} for arn in body["containerInstances"]]
            return {"containerInstances": computers, "failures": []}
        return None

    def _task(self, arn: str) -> Json:
        _, cluster, name, status, number = arn.split("/")
        service = self.services[cluster, name]
        digest = service.primary.digest
        if status == "RUNNING":
            container = {"name": name, "imageDigest": digest, **self._reached(service, int(number))}
            on = {"containerInstanceArn": f"{arn}/computer"} if self.bridged else {}
            return {"taskArn": arn, "lastStatus": "RUNNING", "containers": [container], **on}
        if int(number) >= len(service.stopped):
            return {
                "taskArn": arn, "lastStatus": "DEACTIVATING", "containers": [{"name": name, "imageDigest": digest}]
            }  # fmt: skip
        reason = service.stopped[int(number)]
        return {"taskArn": arn, "lastStatus": "STOPPED", "stoppedReason": reason, "containers": [{"name": name}]}

    def targets(self, service: Service) -> list[tuple[str, int]]:
        """Address and port of each task that runs."""
        if self.bridged:
            return [(COMPUTER, FIRST_PORT + number) for number in range(service.remaining)]
        rollout = int(service.primary.identity.rpartition("/")[2])
        return [(f"10.0.{rollout % 250}.{number + 1}", PORT) for number in range(service.remaining)]

    def _reached(self, service: Service, number: int) -> Json:
        host, port = self.targets(service)[number]
        if self.bridged:
            return {"networkBindings": [{"containerPort": PORT, "hostPort": port}]}
        return {"networkInterfaces": [{"privateIpv4Address": host}]}

    def _take_in(self, service: Service) -> None:
        """All tasks that run are registered, and no others."""
        for one in service.balancers:
            self._register(one["targetGroupArn"], self.targets(service))

    # --- time -------------------------------------------------------------------------------------

    def _service(self, one: Json, ask: Ask) -> Service:
        key = one["clusterArn"].rpartition("/")[2], one["serviceName"]
        if key not in self.services:
            service = Service(key[1], one["desiredCount"], {"maximumPercent": 150, "minimumHealthyPercent": 50})
            first = self._rollout(one["taskDefinition"], Fate.COMPLETES, ask)
            first.running, first.state, first.reason = service.desired, "COMPLETED", "completed"
            service.rollouts = [first]
            self._event(service, "has reached a steady state.")
            service.balancers = one.get("loadBalancers", [])
            self._take_in(service)
            self.services[key] = service
        return self.services[key]

    def _rollout(self, definition: str, fate: Fate, ask: Ask) -> Rollout:
        found = ask("DescribeTaskDefinition", {"taskDefinition": definition})["taskDefinition"]
        image = found["containerDefinitions"][0]["image"]
        digest = image.partition("@")[2] or self.tags.get(image, "")
        number = next(self._numbers)
        return Rollout(f"ecs-svc/{number:019}", found["taskDefinitionArn"], fate, digest, FIRST_DAY + number)

    def _update(self, service: Service, body: Json, ask: Ask) -> None:
        service.configuration |= body.get("deploymentConfiguration", {})
        self._tick(service)
        if body.get("desiredCount", service.desired) != service.desired:
            service.desired = body["desiredCount"]
            service.primary.since, service.primary.state = self._moment(), "IN_PROGRESS"
            service.primary.age = 0
        given = body.get("taskDefinition", service.primary.definition)
        definition = ask("DescribeTaskDefinition", {"taskDefinition": given})["taskDefinition"]["taskDefinitionArn"]
        moved = body.get("loadBalancers", service.balancers) != service.balancers
        service.balancers = body.get("loadBalancers", service.balancers)
        if definition != service.primary.definition or body.get("forceNewDeployment") or moved:
            fate = self.fates.popleft() if self.fates else Fate.COMPLETES
            service.rollouts.insert(0, self._rollout(definition, fate, ask))
            service.primary.since = self._moment()
            if fate is not Fate.COMPLETES:
                service.stopped = [PULL_ERROR] * 2

    def _moment(self) -> float:
        return self._now() if self._now else 0.0

    def _tick(self, service: Service) -> None:
        now = service.primary
        if now.state == "COMPLETED":
            return
        if self._now:
            self._pass(service, self._now() - now.since)
            return
        now.age += 1
        if now.age == 1:
            self._event(service, f"has started {service.desired} tasks: (task 1).")
        if now.fate is Fate.FAILS and now.age >= self.polls:
            self._fail(service, now)
        elif now.fate is Fate.COMPLETES:
            now.running = min(service.desired, service.desired * now.age // self.polls)
            for old in service.rollouts[1:]:
                old.running = min(old.running, service.desired - now.running)
            if now.age >= self.polls:
                now.state, now.reason = "COMPLETED", f"ECS deployment {now.identity} completed."
                service.rollouts = [now]
                self._take_in(service)
                self._event(service, f"(deployment {now.identity}) deployment completed.")
                self._event(service, "has reached a steady state.")

    def _pass(self, service: Service, seconds: float) -> None:
        """So many virtual seconds went by since something else was wanted of the service."""
        now = service.primary
        if now.running < service.desired:
            if self.blocked:
                self._say(service, f"was unable to place a task. Reason: {self.blocked}.")
            elif now.fate is Fate.FAILS and seconds >= self.start_seconds:
                now.age = self.polls
                self._fail(service, now)
            elif now.fate is Fate.COMPLETES and seconds >= self.start_seconds:
                now.running = service.desired
                self._say(service, f"has started {service.desired} tasks.")
        elif now.running > service.desired and seconds >= self.stop_seconds:
            now.running = service.desired
        arrived = self.start_seconds if service.desired else 0.0
        if now.running == service.desired and (len(service.rollouts) == 1 or seconds >= arrived + self.stop_seconds):
            service.rollouts = [now]
            now.state, now.reason = "COMPLETED", f"ECS deployment {now.identity} completed."
            self._say(service, "has reached a steady state.")

    def _say(self, service: Service, words: str) -> None:
        """An event, unless it was the last one too."""
        if not service.events or not service.events[0]["message"].endswith(words):
            self._event(service, words)

    def _fail(self, service: Service, now: Rollout) -> None:
        if now.age == self.polls:
            now.state = "FAILED"
            now.reason = "ECS deployment circuit breaker: tasks failed to start."
            self._event(service, f"(deployment {now.identity}) deployment failed: tasks failed to start.")
        if self.shows_failure is not None and now.age >= self.polls + self.shows_failure:
            old = service.rollouts[1]
            again = Rollout(
                f"ecs-svc/{next(self._numbers):019}", old.definition, Fate.COMPLETES, old.digest, now.created + 1
            )
            self._event(service, f"rolling back to deployment {again.identity}.")
            service.rollouts.insert(0, again)

    # --- what is shown ----------------------------------------------------------------------------

    def _event(self, service: Service, words: str) -> None:
        number = next(self._numbers)
        message = f"(service {service.name}) {words}"
        service.events.insert(0, {"id": f"event-{number}", "createdAt": FIRST_DAY + number, "message": message})

    def _overlay(self, service: Service, one: Json) -> None:
        running = service.remaining
        one |= {
            "taskDefinition": service.primary.definition,
            "desiredCount": service.desired,
            "runningCount": running,
            "pendingCount": self._pending(service),
            "deploymentConfiguration": service.configuration,
            "loadBalancers": service.balancers,
            "events": service.events[:100],
            "deployments": [
                {
                    "id": rollout.identity,
                    "status": "ACTIVE" if number else "PRIMARY",
                    "taskDefinition": rollout.definition,
                    "desiredCount": 0 if number else service.desired,
                    "runningCount": rollout.running if number else min(rollout.running, service.desired),
                    "pendingCount": 0 if number else self._pending(service),
                    "failedTasks": 3 if rollout.state == "FAILED" else 0,
                    "createdAt": rollout.created,
                    "updatedAt": rollout.created,
                    "rolloutState": rollout.state,
                    "rolloutStateReason": rollout.reason,
                }
                for number, rollout in enumerate(service.rollouts)
            ],
        }

    @staticmethod
    def _pending(service: Service) -> int:
        now = service.primary
        if now.state != "IN_PROGRESS" or (now.age == 0 and not now.since):
            return 0
        return max(0, service.desired - now.running)
