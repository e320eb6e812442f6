"""Releases and deployments for programs: a pipeline makes a release known and asks for its deployment."""

from contextlib import suppress
from typing import Annotated, Literal

from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel, StringConstraints

from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.errors import Invalid, OperationError
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.states import State
from controlplane.web.bodies import Body, Reason, Slug
from controlplane.web.problems import problems
from deployments.models import Release
from deployments.services import Draft, create_release, draft, request_deployment
from environments.access import load_environment

router = Router(tags=["deployments"])

Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")]
Image = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,299}$")]
ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{0,80}$")]


class ReleaseIn(Body):
    """digest: of the image, which names it for good. ci: how its checks ended, "" if nobody knows."""

    service: Slug
    version: Version
    image: Image
    digest: ImageDigest
    commit: Commit = ""
    ci: Literal["passed", "failed", "pending", ""] = ""


class ReleaseOut(BaseModel):
    service: str
    version: str
    image: str
    digest: str
    commit: str
    ci: str


class DeploymentIn(Body):
    service: Slug
    environment: Slug
    version: Version
    reason: Reason


class DeploymentOut(BaseModel):
    """operation: the number of the operation. plan_digest: what an approver signs."""

    operation: int
    state: State
    plan_digest: str


@router.post(
    "/releases",
    response={201: ReleaseOut, **problems(403, 409, 413, 415, 422)},
    summary="Make a release known",
    openapi_extra=DESCRIPTION,
)
def add_release(request: ApiRequest, body: ReleaseIn) -> HttpResponse:
    """The same again is no change, except for how its checks ended; another digest for a known version is a 409."""

    def effect() -> ReleaseOut:
        release = create_release(request.auth, **body.model_dump())
        same = {name: getattr(release, name) for name in ("version", "image", "digest", "commit", "ci")}
        return ReleaseOut(service=body.service, **same)

    target = f"release {body.service} {body.version}"
    return answer_once(request, effect, action="release.add", target=target, status=201)


@router.post(
    "/deployments",
    response={201: DeploymentOut, **problems(403, 404, 409, 413, 415, 422)},
    summary="Ask for a deployment",
    openapi_extra=DESCRIPTION,
)
def deploy(request: ApiRequest, body: DeploymentIn) -> HttpResponse:
    """Plan the way to the release and ask for it. Nothing runs before the approvals that the environment wants."""
    actor = request.auth
    environment = load_environment(actor, body.environment, Role.OPERATOR, f"deploy to {body.environment}")

    release = Release.objects.filter(service__slug=body.service, version=body.version).select_related("service").first()
    made: list[Draft] = []

    def look() -> None:
        if release is not None:
            with suppress(OperationError):  # it is raised again, and its answer kept, with the effect
                made.append(draft(environment, release))

    def effect() -> DeploymentOut:
        if release is None:
            raise Invalid(f"There is no release {body.version} of {body.service}. Make it known first: POST releases.")
        known = made[0] if made else None
        operation = request_deployment(actor, environment=environment, release=release, reason=body.reason, made=known)
        return DeploymentOut(operation=operation.pk, state=State(operation.state), plan_digest=operation.plan_digest)

    target, scopes = f"environment {environment.slug}", [environment.slug]
    return answer_once(
        request, effect, action="deployment.request", target=target, scopes=scopes, status=201, look=look
    )
