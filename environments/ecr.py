"""Whether Amazon ECR still has an image, by its digest."""

import re
from dataclasses import replace

from controlplane.operations.errors import StepError
from environments.aws import CHANGE_ATTEMPTS, Account, code_of, in_words, other

REGISTRY = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<name>.+)")
NOT_THERE = {"ImageNotFoundException", "RepositoryNotFoundException"}
SECONDS = 5.0


def is_in_ecr(repository: str) -> bool:
    """Whether an image of this name is one of ECR."""
    return REGISTRY.fullmatch(repository) is not None


def has_image(account: Account, repository: str, digest: str) -> bool:
    """Asked once, in the region that the name says. Raises StepError when it cannot be asked, or is none of ECR."""
    found = REGISTRY.fullmatch(repository)
    if found is None:
        raise StepError(f"{repository} is not in ECR.", permanent=True)
    there = replace(account, region=found["region"], answer_seconds=min(SECONDS, account.answer_seconds))
    try:
        with in_words("ecr:DescribeImages", f"repository {found['name']} in {there.region}"):
            other("ecr", there, CHANGE_ATTEMPTS).describe_images(
                registryId=found["account"], repositoryName=found["name"], imageIds=[{"imageDigest": digest}]
            )
    except StepError as error:
        if code_of(error) in NOT_THERE:
            return False
        raise
    return True
