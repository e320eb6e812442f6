"""Releases and deployments for programs: a pipeline makes a release known and asks for its deployment."""

from contextlib import suppress
from typing import Annotated, Any, Literal

from django.db import transaction
from django.http import HttpResponse
from ninja import Router
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from controlplane.accounts.access import Actor
from controlplane.accounts.api import ApiRequest, Program
from controlplane.accounts.models import Role
from controlplane.operations.errors import Invalid, OperationError, Refused
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.states import State
from controlplane.web.bodies import Body, Reason, Slug
from controlplane.web.moments import Moment
from controlplane.web.problems import problems
from deployments.commits import AT_MOST, keep_commits
from deployments.models import Release, ReleaseEvidence
from deployments.pipelines.evidence import add_evidence
from deployments.pipelines.identity import Workflow
from deployments.pipelines.reporting import report_release
from deployments.services import Draft, create_release, draft, request_deployment
from environments.access import load_environment

router = Router(tags=["deployments"])

Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")]
Image = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,299}$")]
ImageDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
PLAIN = r"^[^\x00-\x1f]*$"
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Base64 = Annotated[str, StringConstraints(min_length=1, max_length=100_000, pattern=r"^[A-Za-z0-9+/_-]*={0,2}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{0,80}$")]
# Neither control characters nor those that turn the direction of what stands beside them.
LINE = r"^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"


class FindingsIn(Body):
    """How many of each severity; what is left out was not looked for, and passes no rule that bounds it."""

    critical: Count | None = None
    high: Count | None = None
    medium: Count | None = None
    low: Count | None = None


class ScanIn(Body):
    """A security scan. tool: what scanned. digest: of its whole report, which is to be found at url."""

    tool: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PLAIN)]
    findings: FindingsIn
    url: Annotated[str, StringConstraints(max_length=500, pattern=r"^(https?://[!-~]*)?$")] = ""
    digest: Annotated[str, StringConstraints(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""


class SignatureIn(Body):
    """A signature of the image as cosign makes it: payload and signature in base64."""

    payload: Base64
    signature: Base64


class EnvelopeSignatureIn(Body):
    keyid: Annotated[str, StringConstraints(max_length=300, pattern=PLAIN)] = ""
    sig: Base64


class AttestationIn(Body):
    """An attestation: a DSSE envelope, with its payload in base64."""

    payloadType: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PLAIN)]  # noqa: N815 - DSSE's
    payload: Base64
    signatures: Annotated[list[EnvelopeSignatureIn], Field(min_length=1, max_length=10)]


class CommitIn(Body):
    """One commit. sha: its whole name. author: a name. title: its first line."""

    sha: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    author: Annotated[str, StringConstraints(max_length=100, pattern=LINE)]
    at: Moment
    title: Annotated[str, StringConstraints(max_length=200, pattern=LINE)]


def _a_line(commits: list[CommitIn]) -> list[CommitIn]:
    if len({one.sha for one in commits}) != len(commits):
        raise ValueError("a commit stands in it twice")
    return commits


class ReleaseIn(Body):
    """digest: of the image, which names it for good. ci: how its checks ended, "" to say nothing of it.

    commits: the newest of its history along first parents, its own first, then older and older ones.

    migrations: whether what it changes in the database can be taken back. scan, signatures, attestations: evidence,
    which is kept; more may be added by the same request with more in it.
    """

    service: Slug
    version: Version
    image: Image
    digest: ImageDigest
    commit: Commit = ""
    commits: Annotated[list[CommitIn], Field(max_length=AT_MOST), AfterValidator(_a_line)] = []
    ci: Literal["passed", "failed", "pending", ""] = ""
    migrations: Literal["none", "reversible", "one-way", ""] = ""
    scan: ScanIn | None = None
    signatures: Annotated[list[SignatureIn], Field(max_length=10)] = []
    attestations: Annotated[list[AttestationIn], Field(max_length=10)] = []

    def plain(self) -> dict[str, str]:
        """The fields that every release has."""
        return {name: getattr(self, name) for name in ("service", "version", "image", "digest", "commit", "ci")}

    def reported(self) -> list[tuple[str, dict[str, Any]]]:
        """The evidence: kind and content of each."""
        scans = [self.scan] if self.scan else []
        kinds = (
            (ReleaseEvidence.Kind.SCAN, scans),
            (ReleaseEvidence.Kind.SIGNATURE, self.signatures),
            (ReleaseEvidence.Kind.ATTESTATION, self.attestations),
        )
        return [(kind.value, one.model_dump(exclude_none=True)) for kind, some in kinds for one in some]


class EvidenceOut(BaseModel):
    """kind: scan, signature or attestation. fingerprint: SHA-256 of its canonical content."""

    kind: str
    fingerprint: str
    added_by: str


class ReleaseOut(BaseModel):
    service: str
    version: str
    image: str
    digest: str
    commit: str
    ci: str
    migrations: str
    evidence: list[EvidenceOut]


class DeploymentIn(Body):
    """strategy: "" for the one that is usual there; see docs/strategies.md.

    scheduled_for: when to start, left out: as soon as it may. start_by: not started by then, it expires.
    """

    service: Slug
    environment: Slug
    version: Version
    reason: Reason
    strategy: Literal["rolling", "canary", "blue_green", ""] = ""
    scheduled_for: Moment | None = None
    start_by: Moment | None = None


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
    auth=Program(),
)
def add_release(request: ApiRequest, body: ReleaseIn) -> HttpResponse:
    """The same again is no change, except for how its checks ended and for more evidence.

    Another digest for a known version is a 409, and so is a known digest from another repository. A workflow run may
    report releases of its own commit.
    """

    def effect() -> ReleaseOut:
        return _release_out(_added(request.auth, body))

    target = f"release {body.service} {body.version}"
    return answer_once(request, effect, action="release.add", target=target, status=201)


def _added(actor: Actor, body: ReleaseIn) -> Release:
    own = body.commit or (actor.run.sha if isinstance(actor, Workflow) else "")
    if body.commits and body.commits[0].sha != own:
        raise Invalid(f"The first of commits has to be the release's own, {own or 'and commit has to name it'}.")
    with transaction.atomic():
        if isinstance(actor, Workflow):
            release = report_release(actor, **body.plain())
        else:
            release = create_release(actor, **body.plain())
        add_evidence(actor.who, release, body.reported(), body.migrations)
        keep_commits(actor.who, release, [one.model_dump(mode="json") for one in body.commits])
    return release


def _release_out(release: Release) -> ReleaseOut:
    same = {name: getattr(release, name) for name in ("version", "image", "digest", "commit", "ci", "migrations")}
    evidence = [
        EvidenceOut(kind=one.kind, fingerprint=one.fingerprint, added_by=one.added_by_name)
        for one in release.evidence.all()
    ]
    return ReleaseOut(service=release.service.slug, evidence=evidence, **same)


@router.post(
    "/deployments",
    response={201: DeploymentOut, **problems(403, 404, 409, 413, 415, 422)},
    summary="Ask for a deployment",
    openapi_extra=DESCRIPTION,
    auth=Program(),
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
                made.append(draft(environment, release, strategy=body.strategy))

    def effect() -> DeploymentOut:
        if release is None:
            raise Invalid(f"There is no release {body.version} of {body.service}. Make it known first: POST releases.")
        if isinstance(actor, Workflow) and not actor.may_deploy(body.service):
            raise Refused(f"The pipeline {actor.pipeline} may not ask for deployments of {body.service}.")
        known = made[0] if made else None
        operation = request_deployment(
            actor,
            environment=environment,
            release=release,
            reason=body.reason,
            strategy=body.strategy,
            scheduled_for=body.scheduled_for,
            start_by=body.start_by,
            made=known,
        )
        return DeploymentOut(operation=operation.pk, state=State(operation.state), plan_digest=operation.plan_digest)

    target, scopes = f"environment {environment.slug}", [environment.slug]
    return answer_once(
        request, effect, action="deployment.request", target=target, scopes=scopes, status=201, look=look
    )
