"""What people may do with releases and deployments."""

from dataclasses import dataclass, replace
from datetime import datetime

from django.db import IntegrityError, transaction

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.doorbell import ring_after_commit
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.operations.states import ACTIVE, State
from controlplane.operations.transitions import request
from deployments.gates import gates_for
from deployments.models import Deployment, Release
from deployments.plans import deployment_plan, versions
from environments.drivers import DRIVERS
from environments.drivers.base import Running, Software
from environments.models import Environment, Placement, Service
from environments.targets import target_of

KIND = "deployment"


@dataclass(frozen=True)
class Draft:
    """What would happen, before anybody asked for it: the page and the request are made from the same draft."""

    environment: Environment
    placement: Placement
    release: Release
    kind: str
    running: list[Running]
    plan: Plan
    gates: list[Gate]

    @property
    def title(self) -> str:
        """What the operation will be called."""
        service, version, place = self.release.service.slug, self.release.version, self.environment.slug
        if self.kind == Deployment.Kind.ROLLBACK:
            return f"Roll back {service} to {version} in {place}"
        return f"Deploy {service} {version} to {place}"


def software_of(release: Release) -> Software:
    """The release as drivers know it."""
    return Software(version=release.version, image=release.image, digest=release.digest)


def create_release(
    actor: Actor, *, service: str, version: str, image: str, digest: str, commit: str = "", ci: str = ""
) -> Release:
    """Make a built version known. The same again is no change, except for how its checks ended.

    Refused without the role operator in an environment where the service has a place, Invalid for an unknown
    service, Conflict when the version is known with another digest: what has a name is never replaced.
    """
    homes = Environment.objects.filter(placements__service__slug=service).values_list("slug", flat=True)
    if not actor.may(Role.OPERATOR, []) and not any(actor.may(Role.OPERATOR, [home]) for home in homes):
        raise Refused(f"Only operators of an environment in which {service} has a place can add a release of it.")
    owner = Service.objects.filter(slug=service).first()
    if owner is None:
        raise Invalid(f"There is no service {service}. Declare it in the configuration file first.")
    with transaction.atomic():
        values = {"image": image, "digest": digest, "commit": commit, "ci": ci, "created_by_name": actor.who.name}
        try:
            with transaction.atomic():
                release, created = Release.objects.select_for_update().get_or_create(
                    service=owner, version=version, defaults=values
                )
        except IntegrityError as error:
            raise Conflict("Somebody else is adding this release at this moment. Try again.") from error
        if not created and (release.digest, release.image) != (digest, image):
            raise Conflict(f"{version} is known with the digest {release.digest}. Give the new build a new version.")
        if not created and (release.ci == ci or release.ci in (Release.CI.PASSED, Release.CI.FAILED)):
            return release
        Release.objects.filter(pk=release.pk).update(ci=ci)
        release.ci = ci
        transaction.on_commit(lambda: ring("news", "releases"))
        for waiting in Deployment.objects.filter(release=release, operation__state=State.QUEUED):
            ring_after_commit(waiting.operation_id)  # perhaps it waits for just these checks
        data = {"digest": digest, "commit": commit, "ci": ci}
        record(actor.who, "release.added" if created else "release.checked", f"release {release}", data=data)
    return release


def draft(environment: Environment, release: Release, kind: str = Deployment.Kind.DEPLOY) -> Draft:
    """Look at the environment and plan the way to the release. Raises StepError, Invalid; changes nothing."""
    placement = Placement.objects.filter(environment=environment, service=release.service).first()
    if placement is None:
        raise Invalid(f"{release.service} has no place in {environment.slug}.")
    running = _what_will_run(environment, placement)
    driver = DRIVERS[environment.driver]
    plan = deployment_plan(driver, target_of(placement), running, software_of(release))
    return Draft(environment, placement, release, kind, running, plan, gates_for(environment, release, kind=kind))


def _what_will_run(environment: Environment, placement: Placement) -> list[Running]:
    """What runs there, or, behind a deployment that is under way or queued, what will run once it is done.

    A plan made in the middle of another change would be out of date when its turn comes. If the one ahead
    fails, the plan does not fit any more and the operation becomes stale instead of surprising anybody.
    """
    running = DRIVERS[environment.driver].running(target_of(placement))
    ahead = Deployment.objects.filter(
        environment=environment,
        release__service=placement.service,
        operation__state__in=ACTIVE - {State.AWAITING_APPROVAL, State.SCHEDULED},
        operation__gate_pending_since=None,
    )
    last = ahead.select_related("release").order_by("-operation__queued_at", "-pk").first()
    if last is None:
        return running
    release = last.release
    after = {"version": release.version, "digest": release.digest, "image": release.image, "reference": ""}
    return [replace(one, **after) for one in running]


def request_deployment(
    actor: Actor,
    *,
    environment: Environment,
    release: Release,
    reason: str,
    kind: str = Deployment.Kind.DEPLOY,
    scheduled_for: datetime | None = None,
    plan_digest: str = "",
    made: Draft | None = None,
) -> Operation:
    """Ask for a deployment or a rollback. plan_digest: the plan the person read, "" for none shown (the API).

    made: the draft, where it was made before a transaction in which the network must not be asked.

    Raises PermissionDenied or Http404 (who), Invalid (reason, gates, nothing to do), Conflict (the plan moved
    since it was read), StepError (the environment cannot be asked what runs).
    """
    require(actor, Role.OPERATOR, [environment.slug], f"deploy to {environment.slug}")
    made = made or draft(environment, release, kind)
    if plan_digest and plan_digest != made.plan.digest:
        raise Conflict("What runs there has changed since you read the plan. Read it again, then ask.")
    if not made.plan.steps:
        raise Invalid(f"Nothing to do: {release.version} runs on every instance of {environment.slug} already.")

    def attach(operation: Operation) -> None:
        Deployment.objects.create(
            operation=operation,
            kind=kind,
            environment=environment,
            release=release,
            from_version=versions(made.running),
            from_digest=next((one.digest for one in made.running if one.digest), ""),
        )

    return request(
        actor,
        kind=KIND,
        title=made.title,
        scopes=[environment.slug],
        plan=made.plan,
        gates=made.gates,
        reason=reason,
        approvals_required=environment.approvals_required,
        scheduled_for=scheduled_for,
        attach=attach,
    )


def rollback_release(placement: Placement) -> Release | None:
    """The release that ran before the one that runs now, if a deployment knows it."""
    good = Deployment.objects.filter(
        environment_id=placement.environment_id,
        release__service_id=placement.service_id,
        operation__state=State.SUCCEEDED,
    )
    last = good.exclude(from_digest="").exclude(from_digest=placement.digest).order_by("-pk").first()
    if last is None:
        return None
    return Release.objects.filter(service_id=placement.service_id, digest=last.from_digest).order_by("-pk").first()
