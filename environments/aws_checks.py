"""Could AWS do it now? Questions that change nothing: permissions, quotas, and whether an image is in a region."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.operations.errors import StepError
from environments.aws import READ_ATTEMPTS, Account, code_of, in_words, other, rds

FARGATE_VCPUS = ("fargate", "L-3032A538")  # "Fargate On-Demand vCPU resource count"
ECR = ".dkr.ecr."
AT_ONCE = 100  # actions that one simulation takes


@dataclass(frozen=True)
class Finding:
    """What was found. holds: None when it could not be asked. words: why, and what helps."""

    holds: bool | None
    words: str


def permissions(account: Account, actions: Sequence[str]) -> Finding:
    """May these credentials do all of it? By IAM's simulation, which carries out nothing."""
    try:
        refused = _refused(account, actions)
    except StepError as error:
        return Finding(None, f"IAM could not be asked what these credentials may do: {error}")
    if refused:
        return Finding(False, f"IAM does not allow {', '.join(refused)}. Somebody who manages IAM has to add them.")
    return Finding(True, f"IAM allows all {len(actions)} actions.")


def _refused(account: Account, actions: Sequence[str]) -> list[str]:
    with in_words("sts:GetCallerIdentity", "these credentials"):
        arn = other("sts", account, READ_ATTEMPTS).get_caller_identity()["Arn"]
    source = principal_of(str(arn))
    refused = []
    for start in range(0, len(actions), AT_ONCE):
        with in_words("iam:SimulatePrincipalPolicy", source):
            answer = other("iam", account, READ_ATTEMPTS).simulate_principal_policy(
                PolicySourceArn=source, ActionNames=list(actions[start : start + AT_ONCE])
            )
        results = answer["EvaluationResults"]
        refused += [str(one["EvalActionName"]) for one in results if one["EvalDecision"] != "allowed"]
    return refused


def principal_of(arn: str) -> str:
    """What IAM simulates for a caller: the role behind a session, or the caller itself."""
    head, _, name = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{name.partition('/')[0]}" if name else arn


def databases_left(account: Account, wanted: int = 1) -> Finding:
    """Does RDS's quota of the region leave room for so many instances more?"""
    try:
        with in_words("rds:DescribeAccountAttributes", f"region {account.region}"):
            answer = rds(account, READ_ATTEMPTS).describe_account_attributes()
    except StepError as error:
        return Finding(None, str(error))
    for one in answer["AccountQuotas"]:
        if one.get("AccountQuotaName") == "DBInstances":
            used, most = one.get("Used", 0), one.get("Max", 0)
            words = f"{used} of {most} database instances are used in {account.region}"
            if used + wanted > most:
                return Finding(
                    False, f"{words}, so there is no room for {wanted} more. Raise the quota, or delete one."
                )
            return Finding(True, f"{words}.")
    return Finding(None, f"RDS does not say how many instances there may be in {account.region}.")


def fargate_left(account: Account, vcpus: float) -> Finding:
    """Is Fargate's quota of the region large enough for tasks of so many vCPUs? What runs already is not counted."""
    service, quota = FARGATE_VCPUS
    try:
        with in_words("servicequotas:GetServiceQuota", f"Fargate in {account.region}"):
            client = other("service-quotas", account, READ_ATTEMPTS)
            value = float(client.get_service_quota(ServiceCode=service, QuotaCode=quota)["Quota"]["Value"])
    except StepError as error:
        return Finding(None, str(error))
    words = f"Fargate may use {value:g} vCPUs in {account.region}, and {vcpus:g} are needed"
    return Finding(value >= vcpus, f"{words}." if value >= vcpus else f"{words}. Raise the quota.")


def image_present(account: Account, image: str, digest: str) -> Finding:
    """Is the image with this digest in the region's own registry? image: its name, with or without a tag.

    A registry that is not ECR, or is in another region, is none that can be relied on while that region is gone.
    """
    name = image.partition("@")[0]
    registry, _, repository = name.partition("/")
    repository = repository.partition(":")[0]
    if ECR not in registry or not repository:
        return Finding(None, f"{name} is not in ECR, so it is not known whether {account.region} can pull it.")
    region = registry.partition(ECR)[2].partition(".")[0]
    if region != account.region:
        words = (
            f"{name} is in {region}: replicate it to {account.region}, and name that registry in the task definition"
        )
        return Finding(False, f"{words}.")
    try:
        with in_words("ecr:DescribeImages", f"repository {repository} ({region})"):
            other("ecr", account, READ_ATTEMPTS).describe_images(
                registryId=registry.partition(".")[0], repositoryName=repository, imageIds=[{"imageDigest": digest}]
            )
    except StepError as error:
        if code_of(error) in ("ImageNotFoundException", "RepositoryNotFoundException"):
            return Finding(False, f"{repository} in {region} has no image {digest}. Push it there, or replicate it.")
        return Finding(None, str(error))
    return Finding(True, f"{repository} in {region} has {digest[:19]}.")
