"""Places for programs: the files that a driver would apply, and drift with its two answers."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Query, Router
from pydantic import BaseModel, StringConstraints

from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.errors import OperationError
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from controlplane.web.bodies import Body, Reason
from controlplane.web.problems import problem, problems
from deployments.adoption import Adoption, look_at, request_adoption
from deployments.api import DeploymentOut
from deployments.manifests import deployed_release, documents_of
from deployments.models import Release
from deployments.services import Draft, draft, request_deployment
from environments.access import load_environment
from environments.drift import Standing, standing_of, with_drift
from environments.models import Placement

router = Router(tags=["deployments"])

# "" for the release that was deployed.
Wanted = Annotated[str, Query(pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]{0,99})?$")]
PlanDigest = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]


class DocumentOut(BaseModel):
    """A file, as the page shows it; secrets stand in it as references."""

    name: str
    text: str


class DifferenceOut(BaseModel):
    """what: image, count, environment or registration. subject: where. since: when it was first seen."""

    what: str
    subject: str
    wanted: str
    found: str
    since: datetime


class DriftOut(BaseModel):
    """version, digest: what was deployed. known_at: when the place answered last, null for never.

    unknown, unknown_since: why it cannot be asked now, or not of all, "" and null where it can; then what was known to
    differ still stands. may_be_adopted: what runs can be taken for what was deployed.
    """

    service: str
    version: str
    digest: str
    known_at: datetime | None
    unknown: str
    unknown_since: datetime | None
    may_be_adopted: bool
    differences: list[DifferenceOut]


class AdoptionIn(Body):
    """plan_digest: of the plan that was read, on the page say; "" for none."""

    reason: Reason
    plan_digest: PlanDigest = ""


class RedeploymentIn(Body):
    """strategy: "" for the one that is usual there."""

    reason: Reason
    strategy: Literal["rolling", "canary", "blue_green", ""] = ""


ASKED: dict[str, Any] = {
    "response": {201: DeploymentOut, **problems(403, 404, 409, 413, 415, 422)}, "openapi_extra": DESCRIPTION,
}  # fmt: skip


@router.get(
    "/environments/{slug:environment}/manifests/{slug:service}",
    response={200: list[DocumentOut], **problems(404, 409, 422)},
    summary="The files that its driver would apply",
)
def manifests(
    request: ApiRequest, environment: str, service: str, version: Wanted = ""
) -> list[DocumentOut] | HttpResponse:
    """For the release that was deployed, or for the version that is named. 409: there is nothing to show, and why."""
    found = load_environment(request.auth, environment)
    placement = _placement(found.pk, service)
    try:
        documents = documents_of(found, placement.service.slug, version)
    except OperationError as error:
        return problem(409, str(error))
    return [DocumentOut(name=one.name, text=one.text) for one in documents]


@router.get(
    "/environments/{slug:environment}/drift",
    response={200: list[DriftOut], **problems(404)},
    summary="What runs otherwise than it was deployed",
)
def drift(request: ApiRequest, environment: str) -> list[DriftOut]:
    """Each service that was deployed there, as it was seen last; asking again is the clock's."""
    found = load_environment(request.auth, environment)
    places = Placement.objects.filter(environment=found).exclude(version="").select_related("service")
    return [_drift_out(one, standing_of(one), found.driver) for one in with_drift(places)]


def _drift_out(placement: Placement, standing: Standing, driver: str) -> DriftOut:
    return DriftOut(
        service=placement.service.slug,
        version=placement.version,
        digest=placement.digest,
        known_at=standing.known_at,
        unknown=standing.unknown,
        unknown_since=standing.unknown_since,
        may_be_adopted=standing.may_be_adopted(driver),
        differences=[
            DifferenceOut(what=one.what, subject=one.subject, wanted=one.wanted, found=one.found, since=one.began_at)
            for one in standing.differences
        ],
    )


@router.post("/environments/{slug:environment}/drift/{slug:service}/adoption", summary="Adopt what runs", **ASKED)
def adopt(request: ApiRequest, environment: str, service: str, body: AdoptionIn) -> HttpResponse:
    """What truly runs becomes what was deployed; approved as a deployment is. Nothing is changed at the place."""
    actor = request.auth
    found = load_environment(actor, environment, Role.OPERATOR, f"adopt what runs in {environment}")
    placement = _placement(found.pk, service)
    made: list[Adoption] = []

    def look() -> None:
        with suppress(OperationError):  # it is raised again, and its answer kept, with the effect
            made.append(look_at(placement))

    def effect() -> DeploymentOut:
        known = made[0] if made else None
        return _asked(request_adoption(actor, placement, reason=body.reason, plan_digest=body.plan_digest, made=known))

    target, scopes = str(placement), [environment]
    return answer_once(request, effect, action="adoption.request", target=target, scopes=scopes, status=201, look=look)


@router.post(
    "/environments/{slug:environment}/drift/{slug:service}/redeployment",
    summary="Deploy again what should run",
    **ASKED,
)
def redeploy(request: ApiRequest, environment: str, service: str, body: RedeploymentIn) -> HttpResponse:
    """A deployment of the release that was deployed there: its plan has steps for what differs, and only for that."""
    actor = request.auth
    found = load_environment(actor, environment, Role.OPERATOR, f"deploy to {environment}")
    placement = _placement(found.pk, service)
    made: list[tuple[Release, Draft]] = []

    def look() -> None:
        with suppress(OperationError):
            release = deployed_release(placement)
            made.append((release, draft(found, release, strategy=body.strategy)))

    def effect() -> DeploymentOut:
        release, known = made[0] if made else (deployed_release(placement), None)
        operation = request_deployment(
            actor, environment=found, release=release, reason=body.reason, strategy=body.strategy, made=known
        )
        return _asked(operation)

    target, scopes = str(placement), [environment]
    return answer_once(
        request, effect, action="deployment.request", target=target, scopes=scopes, status=201, look=look
    )


def _placement(environment: int, service: str) -> Placement:
    places = Placement.objects.select_related("environment", "service")
    return get_object_or_404(places, environment=environment, service__slug=service)


def _asked(operation: Operation) -> DeploymentOut:
    return DeploymentOut(operation=operation.pk, state=State(operation.state), plan_digest=operation.plan_digest)
