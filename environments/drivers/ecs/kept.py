"""Whether a service of ECS could go back: the revision in service is still active, and its image in the registry."""

from collections.abc import Mapping
from typing import Any

from controlplane.operations.errors import StepError
from controlplane.operations.gates import Outcome
from environments.aws import Account
from environments.drivers.base import KEPT_SECONDS, Kept, Software
from environments.drivers.ecs.service import EcsService, short
from environments.ecr import has_image as ecr_has_image
from environments.ecr import is_in_ecr
from environments.image_names import digest_in, repository_of
from environments.registries import has_image, parts_of


def kept_in_ecs(place: Mapping[str, Any], software: Software) -> Kept:
    """A deregistered revision still serves, but no service can be updated to it. Raises StepError."""
    service = EcsService.at({**place, "answer_seconds": min(KEPT_SECONDS, place["answer_seconds"])})
    arn = service.state().definition
    if not service.is_active(arn):
        words = f"{short(arn)}, which runs {software.version}, was deregistered, so nothing can be updated back to it."
        return Kept(Outcome.FAILED, f"{words} Deploy {software.version} once more first: that registers it anew.")
    image = service.definition(arn).image
    repository = repository_of(image)
    if digest_in(image) not in ("", software.digest):
        words = f"{short(arn)} is in service with another image than {software.version}. Deploy or adopt one first."
        return Kept(Outcome.FAILED, words)
    where, found = _asked(service.account, repository, software)
    if found:
        return Kept(Outcome.PASSED, f"{short(arn)} is active and its image is in {where}, by its digest")
    words = f"{where} does not have the image of {software.version} any more: new tasks could not start. Push it again."
    return Kept(Outcome.FAILED, words)


def _asked(account: Account, repository: str, software: Software) -> tuple[str, bool]:
    """Where it is looked for, and whether it is there. Raises StepError."""
    if is_in_ecr(repository):
        return repository, ecr_has_image(account, repository, software.digest)
    host = parts_of(repository)[0]
    try:
        return host, has_image(repository, software.digest)
    except StepError as error:
        words = f"whether the image of {software.version} is still there is not known: {error}"
        raise StepError(words, permanent=error.permanent) from error
