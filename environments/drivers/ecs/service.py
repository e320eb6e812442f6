"""One service of Amazon ECS: what its API tells, and the two calls that change something.

Rules of the API that this file knows so that nobody else has to: a missing service is no error but a "failure" in
the answer; events come newest first, a hundred at most; a revision is registered by sending back what describing
another one gave, without the fields that ECS adds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments, digest_of
from environments.aws import CHANGE_ATTEMPTS, READ_ATTEMPTS, Account, ecs, in_words
from environments.image_names import tag_of

# Docker labels of the container: who registered a revision, and which version it is.
OPERATION = "controlplane.operation"
VERSION = "controlplane.version"
OURS = (OPERATION, VERSION)
BREAKER = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}


def short(arn: str) -> str:
    """What people call a thing: "pitchey-backend:42" of its ARN."""
    return arn.rpartition("/")[2]


def family_of(arn: str) -> str:
    """The family of a task definition's revision, "" of none."""
    return short(arn).rpartition(":")[0]


def revision_of(arn: str) -> int:
    """The number of a task definition's revision."""
    return int(arn.rpartition(":")[2])


@dataclass(frozen=True)
class Definition:
    """One revision of a task definition; `container` is the one whose image is deployed."""

    content: Mapping[str, Any]
    container: str

    @property
    def arn(self) -> str:
        """Its full name."""
        return str(self.content["taskDefinitionArn"])

    @property
    def family(self) -> str:
        """What all its revisions are called."""
        return str(self.content["family"])

    @property
    def revision(self) -> int:
        """Its number; later ones are greater."""
        return int(self.content["revision"])

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The container's part. Raises StepError when it is not clear which one is meant."""
        containers = self.content["containerDefinitions"]
        names = [one["name"] for one in containers]
        found = [one for one in containers if one["name"] == self.container or (not self.container and len(names) == 1)]
        if len(found) != 1:
            asked = f"no container {self.container}" if self.container else "several containers"
            words = f"{short(self.arn)} has {asked}: it has {', '.join(names)}. Name one as container in the settings."
            raise StepError(words, permanent=True)
        return dict(found[0])

    @property
    def image(self) -> str:
        """The container's image, as it stands there."""
        return str(self.chosen["image"])

    @property
    def labels(self) -> dict[str, str]:
        """The container's Docker labels."""
        return dict(self.chosen.get("dockerLabels", {}))

    @property
    def version(self) -> str:
        """What it says it is: our label, the image's tag, or "unknown"."""
        return self.labels.get(VERSION) or tag_of(self.image) or "unknown"

    def request(self, image: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """What would register it again with this image, and with these labels in place of ours."""
        chosen = dict(self.chosen)
        kept = {key: value for key, value in self.labels.items() if key not in OURS}
        chosen |= {"image": image, "dockerLabels": {**kept, **labels}}
        containers = [chosen if one["name"] == chosen["name"] else one for one in self.content["containerDefinitions"]]
        return {**self.content, "containerDefinitions": containers}

    @property
    def shape(self) -> str:
        """A digest of all but image and our labels, that is, of what a deployment leaves alone."""
        accidental = ("taskDefinitionArn", "revision", "tags")
        rest = {key: value for key, value in self.request("", {}).items() if key not in accidental}
        return digest_of(rest)[:16]


@dataclass(frozen=True)
class State:
    """A service at one moment. events: (id, message), newest first."""

    primary: Mapping[str, Any]
    others: tuple[Mapping[str, Any], ...]
    desired: int
    running: int
    pending: int
    events: tuple[tuple[str, str], ...]
    configuration: Mapping[str, Any]
    balancers: tuple[Arguments, ...] = ()

    @property
    def deployment(self) -> str:
        """Which deployment is the current one."""
        return str(self.primary["id"])

    @property
    def definition(self) -> str:
        """The ARN of the revision the current deployment brings."""
        return str(self.primary["taskDefinition"])

    @property
    def arrived(self) -> int:
        """How many tasks run on the current deployment's revision; `running` counts those before it too."""
        return int(self.primary["runningCount"])

    @property
    def in_words(self) -> str:
        """Its numbers, for the log."""
        name = short(self.definition)
        rollout = str(self.primary.get("rolloutState", "")).lower().replace("_", " ")
        counts = f"{self.desired} desired, {self.running} running ({self.arrived} on {name}), {self.pending} pending"
        return f"{counts}, rollout {rollout}" if rollout else counts

    def news(self, since: str) -> list[str]:
        """Messages of the events after the one with this id, oldest first."""
        new = []
        for identity, message in self.events:
            if identity == since:
                break
            new.append(message)
        return new[::-1]

    @property
    def newest_event(self) -> str:
        """The id of the last event, "" when there is none yet."""
        return self.events[0][0] if self.events else ""


class EcsService:
    """A service of a cluster. All calls raise StepError, in words."""

    def __init__(self, account: Account, cluster: str, service: str, container: str) -> None:
        self.account = account
        self.cluster = cluster
        self.service = service
        self.container = container
        self.words = f"service {service} in cluster {cluster} ({account.region})"
        self._client = ecs(account, READ_ATTEMPTS)
        shape = self._client.meta.service_model.operation_model("RegisterTaskDefinition").input_shape
        self._inputs = shape.members if shape else {}

    @classmethod
    def at(cls, place: Arguments) -> "EcsService":
        """The service that a step's arguments name."""
        account = Account(**{field.name: place[field.name] for field in fields(Account)})
        return cls(account, place["cluster"], place["service"], place["container"])

    def state(self) -> State:
        """What it is doing now."""
        with in_words("ecs:DescribeServices", self.words):
            answer = self._client.describe_services(cluster=self.cluster, services=[self.service])
        found = next((one for one in answer["services"] if one["status"] == "ACTIVE"), None)
        if found is None:
            remedy = "Check region, cluster and service in the environment's driver settings."
            raise StepError(f"There is no active {self.words}. {remedy}", permanent=True)
        kind = found.get("deploymentController", {}).get("type", "ECS")
        if kind != "ECS":
            words = f"The {self.words} is deployed by {kind}. This driver needs the rolling update of ECS itself."
            raise StepError(words, permanent=True)
        deployments: list[Mapping[str, Any]] = [dict(one) for one in found["deployments"]]
        return State(
            primary=next(one for one in deployments if one["status"] == "PRIMARY"),
            others=tuple(one for one in deployments if one["status"] != "PRIMARY"),
            desired=found["desiredCount"],
            running=found["runningCount"],
            pending=found["pendingCount"],
            events=tuple((event["id"], event["message"]) for event in found.get("events", [])),
            configuration=dict(found.get("deploymentConfiguration", {})),
            balancers=tuple(dict(one) for one in found.get("loadBalancers", [])),
        )

    def definition(self, name: str) -> Definition:
        """A revision by its ARN, or the newest one of a family."""
        with in_words("ecs:DescribeTaskDefinition", f"task definition {short(name)}"):
            answer = self._client.describe_task_definition(taskDefinition=name, include=["TAGS"])
        inputs: dict[str, Any] = {key: value for key, value in answer["taskDefinition"].items() if key in self._inputs}
        # Tags under "aws:" are AWS's own and cannot be given.
        if tags := [tag for tag in answer.get("tags", []) if not tag["key"].startswith("aws:")]:
            inputs["tags"] = tags
        own = {key: answer["taskDefinition"][key] for key in ("taskDefinitionArn", "revision")}
        return Definition({**inputs, **own}, self.container)

    def is_active(self, name: str) -> bool:
        """Whether a revision may be brought into service; one that was deregistered may not."""
        with in_words("ecs:DescribeTaskDefinition", f"task definition {short(name)}"):
            answer = self._client.describe_task_definition(taskDefinition=name)
        return str(answer["taskDefinition"].get("status", "")) == "ACTIVE"

    def newest(self, family: str, at_least: int) -> int:
        """The number of the family's newest active revision, or the one given if there is no newer."""
        return max([at_least, *map(revision_of, self._newer(family, at_least))])

    def registered_by(self, mark: str, family: str, after: int) -> Definition | None:
        """The first revision with this mark after the one with that number, None when there is none."""
        newer = [self.definition(name) for name in self._newer(family, after)]
        found = [one for one in newer if one.labels.get(OPERATION) == mark]
        return min(found, key=lambda one: one.revision, default=None)

    def _newer(self, family: str, after: int) -> list[str]:
        names: list[str] = []
        with in_words("ecs:ListTaskDefinitions", f"task definitions of {family}"):
            paginator = self._client.get_paginator("list_task_definitions")
            for page in paginator.paginate(familyPrefix=family, status="ACTIVE", sort="DESC"):
                newer = [name for name in page["taskDefinitionArns"] if revision_of(name) > after]
                names += newer
                if len(newer) < len(page["taskDefinitionArns"]):
                    break
        return names

    def as_sent(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Without what ECS only tells: its number, when it was registered, by whom."""
        return {key: value for key, value in request.items() if key in self._inputs}

    def register(self, request: Mapping[str, Any]) -> str:
        """Register a revision; returns its ARN. Sent once: after no answer, look before sending it again."""
        values = self.as_sent(request)
        with in_words("ecs:RegisterTaskDefinition", f"task definition {values['family']}"):
            answer = ecs(self.account, CHANGE_ATTEMPTS).register_task_definition(**values)
        return answer["taskDefinition"]["taskDefinitionArn"]

    def update(
        self,
        definition: str,
        configuration: Mapping[str, Any],
        *,
        force: bool,
        balancers: Sequence[Arguments] | None = None,
    ) -> str:
        """Bring the revision into service, guarded by ECS's circuit breaker; returns the deployment's id.

        configuration: how the service is deployed now; it is kept but for the breaker. balancers: all that it is to
        have; None: those that it has. Sent once, as above.
        """
        guarded: Any = {**configuration, **BREAKER}
        more: Any = {} if balancers is None else {"loadBalancers": list(balancers)}
        with in_words("ecs:UpdateService", self.words):
            answer = ecs(self.account, CHANGE_ATTEMPTS).update_service(
                cluster=self.cluster, service=self.service, taskDefinition=definition,
                deploymentConfiguration=guarded, forceNewDeployment=force, **more,
            )  # fmt: skip
        return next(one["id"] for one in answer["service"]["deployments"] if one["status"] == "PRIMARY")

    def running_digests(self, container: str) -> set[str]:
        """The digests of the images that this container truly got in the running tasks, whatever a tag said."""
        containers = [one for task in self.tasks("RUNNING") for one in task.get("containers", [])]
        return {one["imageDigest"] for one in containers if one["name"] == container and one.get("imageDigest")}

    def why_stopped(self) -> list[str]:
        """Why its tasks stopped lately, each reason once."""
        reasons = []
        for task in self.tasks("STOPPED"):
            parts = [task.get("stoppedReason", ""), *(one.get("reason", "") for one in task.get("containers", []))]
            reasons.append(": ".join(part for part in parts if part))
        return list(dict.fromkeys(reason for reason in reasons if reason))

    def computers(self, tasks: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """The EC2 instances that tasks run on, by the ARN of the container instance."""
        wanted = sorted({str(one["containerInstanceArn"]) for one in tasks if one.get("containerInstanceArn")})
        if not wanted:
            return {}
        with in_words("ecs:DescribeContainerInstances", self.words):
            answer = self._client.describe_container_instances(cluster=self.cluster, containerInstances=wanted)
        return {one["containerInstanceArn"]: one.get("ec2InstanceId", "") for one in answer["containerInstances"]}

    def tasks(self, status: Any) -> list[Mapping[str, Any]]:
        """Its tasks that are to run ("RUNNING"), or that stopped lately ("STOPPED"); a hundred at most."""
        with in_words("ecs:ListTasks", self.words):
            names = self._client.list_tasks(cluster=self.cluster, serviceName=self.service, desiredStatus=status)
        if not names["taskArns"]:
            return []
        with in_words("ecs:DescribeTasks", self.words):
            answer = self._client.describe_tasks(cluster=self.cluster, tasks=names["taskArns"][:100])
        return [dict(task) for task in answer["tasks"]]
