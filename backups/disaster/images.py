"""Is the image that people run there, in the other region? By driver: whoever knows one says how it finds out."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backups.disaster.base import NOT_READY, READY, UNKNOWN
from controlplane.operations.errors import StepError
from environments.aws import READ_ATTEMPTS, Account, in_words, other
from environments.aws import code_of as code_of_refusal
from environments.drivers import DRIVERS
from environments.drivers.base import Target
from environments.image_names import repository_of

REGISTRY = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<name>.+)")
NOT_THERE = {"ImageNotFoundException", "RepositoryNotFoundException"}


@dataclass(frozen=True)
class Found:
    """outcome: READY when it is there, NOT_READY when it is not, UNKNOWN where nobody says."""

    outcome: str
    words: str


# The service in its environment, and the digest that is looked for. Never raises StepError.
Images = Callable[[Target, str], Found]


def image_at(driver: str, target: Target, digest: str) -> Found:
    """Whether the image could be started there. Network; call it outside a transaction."""
    if not digest:
        return Found(UNKNOWN, "nobody knows which image: deploy it once")
    ask = IMAGES.get(driver)
    if ask is None:
        return Found(UNKNOWN, f"not known: the driver {driver} says nothing of images")
    try:
        return ask(target, digest)
    except StepError as error:
        return Found(UNKNOWN, str(error))


def _local(target: Target, digest: str) -> Found:
    """The local driver's releases are a version and the program that every instance has."""
    return Found(READY, "needs no image")


def _ecs(target: Target, digest: str) -> Found:
    """From where the service there pulls: its own task definition says."""
    running = DRIVERS["ecs"].running(target)[0]
    repository = repository_of(running.image)
    found = REGISTRY.fullmatch(repository)
    if found is None:
        return Found(UNKNOWN, f"not known: {repository or 'its image'} is not in ECR")
    own = str(target.settings.get("region", ""))
    if found["region"] != own:
        words = f"it is pulled from {found['region']}: when that region is gone, {own} cannot start it"
        return Found(NOT_READY, f"{words}. Replicate the repository to {own} and name that one.")
    account = Account.of({**target.settings, "region": own})
    client = other("ecr", account, READ_ATTEMPTS)
    try:
        with in_words("ecr:DescribeImages", f"repository {found['name']} in {own}"):
            client.describe_images(
                registryId=found["account"], repositoryName=found["name"], imageIds=[{"imageDigest": digest}]
            )
    except StepError as error:
        if code_of_refusal(error) in NOT_THERE:
            return Found(NOT_READY, f"repository {found['name']} in {own} does not have it: push or copy it")
        raise
    return Found(READY, f"repository {found['name']} in {own}")


IMAGES: Mapping[str, Images] = {"local": _local, "ecs": _ecs}
