"""What people may do with releases and deployments."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.doorbell import ring_after_commit
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.gates import Gate
from controlplane.operations.models import Operation
from controlplane.operations.plans import Plan
from controlplane.operations.states import ACTIVE, State
from controlplane.operations.transitions import may_be_planned, request
from deployments.adoption import KIND as ADOPTION
from deployments.by_digest import releases_with
from deployments.commits import Between, commits_between, commits_from
from deployments.gates import way_back
from deployments.gates.asking import gates_for
from deployments.gates.emergency import emergency
from deployments.ground import Ground, ground_of
from deployments.models import Deployment, Policy, Release
from deployments.pipelines.identity import Workflow
from deployments.pipelines.telling import follow
from deployments.plans import (
    begin_with,
    deployment_plan,
    makes_backup,
    serving,
    several,
    versions,
    will_run,
    without_backup,
)
from deployments.policies import demand_of, first_steps
from deployments.strategies.asking import situation_of
from deployments.strategies.canary import weights_after
from deployments.strategies.settings import CANARY, LABELS, ROLLING, Settings
from deployments.strategies.situation import Situation
from environments.drivers import DRIVERS
from environments.drivers.base import Running, Software
from environments.image_names import repository_of
from environments.models import Environment, Placement, Service
from environments.registries import parts_of

KIND = "deployment"


@dataclass(frozen=True)
class Draft:
    """What would happen, before anybody asked for it: the page and the request are made from the same draft.

    running: what people get now. former: the release that was deployed last, if it is known. seen: what the place said
    of the way back.
    """

    environment: Environment
    placement: Placement
    release: Release
    kind: str
    running: list[Running]
    plan: Plan
    gates: list[Gate]
    strategy: str = ROLLING
    settings: Settings = field(default_factory=Settings)
    former: Release | None = None
    seen: way_back.Look | None = None

    @property
    def title(self) -> str:
        """What the operation will be called."""
        service, version, place = self.release.service.slug, self.release.version, self.environment.slug
        if self.kind == Deployment.Kind.ROLLBACK:
            return f"Roll back {service} to {version} in {place}"
        return f"Deploy {service} {version} to {place}"


def commits_of(made: Draft) -> Between | None:
    """What the draft brings or takes away; None where it is not one known release that runs there."""
    digests, here = {one.digest for one in made.running if one.digest}, made.former
    if here is None or digests != {here.digest}:
        return commits_from(digests, [one.version for one in made.running], made.release)
    return commits_between(here, made.release) if here != made.release else None


def software_of(release: Release) -> Software:
    """The release as drivers know it."""
    return Software(version=release.version, image=release.image, digest=release.digest)


def create_release(
    actor: Actor, *, service: str, version: str, image: str, digest: str, commit: str = "", ci: str = ""
) -> Release:
    """Make a built version known. The same again is no change, except for how its checks ended, where ci says it.

    Refused without the role operator in an environment where the service has a place, Invalid for an unknown
    service, Conflict when the version is known with another digest, or the digest from another repository: what has a
    name is never replaced, and what runs somewhere is fetched from where it came.
    """
    if not _may_add(actor, service):
        raise Refused(f"Only operators of an environment in which {service} has a place can add a release of it.")
    with transaction.atomic():
        # One after the other, so that two at once cannot bring one digest from two repositories.
        owner = Service.objects.select_for_update(no_key=True).filter(slug=service).first()
        if owner is None:
            raise Invalid(f"There is no service {service}. Declare it in the configuration file first.")
        values = {"image": image, "digest": digest, "commit": commit, "ci": ci, "created_by_name": actor.who.name}
        release, created = Release.objects.select_for_update().get_or_create(
            service=owner, version=version, defaults=values
        )
        if not created and (release.digest, release.image) != (digest, image):
            raise Conflict(f"{version} is known with the digest {release.digest}. Give the new build a new version.")
        if created:
            _check_origin(release)
        elif not ci or release.ci == ci or release.ci in (Release.CI.PASSED, Release.CI.FAILED):
            return release
        set_ci(actor.who, release, ci, action="release.added" if created else "release.checked")
    return release


def _check_origin(release: Release) -> None:
    """Raises Conflict when the service has the digest from another repository."""
    origin = parts_of(repository_of(release.image))
    for other in Release.objects.filter(service=release.service, digest=release.digest).exclude(pk=release.pk):
        if parts_of(repository_of(other.image)) != origin:
            words = f"The image {release.digest} is known from {repository_of(other.image)}, as {other.version}."
            raise Conflict(f"{words} Name it from there, or build it anew.")


def _may_add(actor: Actor, service: str) -> bool:
    """Whether they may make a release of the service known: by the rule of a pipeline, or as operator of a home."""
    if isinstance(actor, Workflow):
        return actor.may_report(service)
    homes = Environment.objects.filter(placements__service__slug=service).values_list("slug", flat=True)
    return actor.may(Role.OPERATOR, []) or any(actor.may(Role.OPERATOR, [home]) for home in homes)


def set_ci(who: Who, release: Release, ci: str, *, action: str = "release.checked") -> None:
    """Write down how the checks of a release ended, in the caller's transaction."""
    Release.objects.filter(pk=release.pk).update(ci=ci)
    release.ci = ci
    transaction.on_commit(lambda: ring("news", "releases"))
    for waiting in Deployment.objects.filter(release=release, operation__state=State.QUEUED):
        ring_after_commit(waiting.operation_id)  # perhaps it waits for just these checks
    data = {"digest": release.digest, "commit": release.commit, "ci": ci}
    record(who, action, f"release {release}", data=data)


def draft(
    environment: Environment,
    release: Release,
    kind: str = Deployment.Kind.DEPLOY,
    strategy: str = "",
    ground: Ground | None = None,
) -> Draft:
    """Look at the environment and plan the way to the release. strategy: "" for the one that is usual there.

    ground: where it is known. Raises StepError, Invalid; changes nothing.
    """
    ground = ground or ground_of(environment, release)
    placement, policy, settings = ground.placement, ground.policy, ground.settings
    if placement is None:
        raise Invalid(f"{release.service} has no place in {environment.slug}.")
    chosen = settings.choose(strategy, rollback=kind == Deployment.Kind.ROLLBACK)
    situation = _what_will_run(placement, policy, settings)
    plan = deployment_plan(DRIVERS[environment.driver], situation, software_of(release), settings, chosen)
    former = way_back.former_at(placement)
    seen = way_back.look(placement, policy, former) if kind == Deployment.Kind.DEPLOY else None
    plan = as_the_rules_ask(plan, policy, kind)
    is_made = makes_backup(plan.as_json()) if plan.steps else None
    return Draft(
        environment=environment,
        placement=placement,
        release=release,
        kind=kind,
        running=serving(situation, settings, chosen),
        plan=plan,
        gates=gates_for(environment, release, kind=kind, seen=seen, makes_backup=is_made),
        strategy=chosen,
        settings=settings,
        former=former,
        seen=seen,
    )


def as_the_rules_ask(plan: Plan, policy: Policy, kind: str) -> Plan:
    """The plan with what the rules have done before anything is touched; the way back waits for nothing.

    Nothing is done first, and the plan says so, while two people have set aside what may wait: a database that is
    broken could not be backed up, and what mends it must not wait for that.
    """
    first = () if kind == Deployment.Kind.ROLLBACK else first_steps(policy)
    return without_backup(plan) if first and emergency(policy.environment) else begin_with(plan, first)


@dataclass(frozen=True)
class Way:
    """A strategy that may be chosen. is_chosen: the one that the page shows."""

    name: str
    label: str
    is_chosen: bool


def ways_to(ground: Ground, kind: str, chosen: str) -> list[Way]:
    """The strategies that may be chosen for a deployment, the usual one first. chosen: "" for that."""
    if ground.placement is None:
        return []
    offered = ground.settings.offered(rollback=kind == Deployment.Kind.ROLLBACK)
    return [Way(name, LABELS[name], name == (chosen or offered[0])) for name in offered]


def _what_will_run(placement: Placement, policy: Policy, settings: Settings) -> Situation:
    """What runs there, or, behind a deployment that is under way or queued, what will run once it is done.

    A plan made in the middle of another change would be out of date when its turn comes. If the one ahead
    fails, the plan does not fit any more and the operation becomes stale instead of surprising anybody.
    """
    situation = situation_of(placement, policy)
    ahead = Deployment.objects.filter(
        environment=placement.environment,
        release__service=placement.service,
        operation__state__in=ACTIVE - {State.AWAITING_APPROVAL, State.SCHEDULED},
        operation__gate_pending_since=None,
    )
    ahead = ahead.select_related("release", "operation").order_by("-operation__queued_at", "-pk")
    last = ahead.first()
    if last is None:
        return situation
    canary = last if last.strategy == CANARY else ahead.filter(strategy=CANARY).first()
    if canary and situation.balanced and (weights := weights_after(canary.operation.plan)):
        situation = replace(situation, balanced=replace(situation.balanced, weights=weights))
    return will_run(situation, software_of(last.release), settings, last.strategy)


def request_deployment(
    actor: Actor,
    *,
    environment: Environment,
    release: Release,
    reason: str,
    kind: str = Deployment.Kind.DEPLOY,
    scheduled_for: datetime | None = None,
    start_by: datetime | None = None,
    plan_digest: str = "",
    strategy: str = "",
    made: Draft | None = None,
) -> Operation:
    """Ask for a deployment or a rollback. plan_digest: the plan the person read, "" for none shown (the API).

    strategy: "" for the one that is usual there. made: the draft, where it was made before a transaction in which the
    network must not be asked.

    Raises PermissionDenied or Http404 (who), Invalid (reason, gates, nothing to do), Conflict (the plan moved
    since it was read), StepError (the environment cannot be asked what runs).
    """
    require(actor, Role.OPERATOR, [environment.slug], f"deploy to {environment.slug}")
    may_be_planned(scheduled_for, start_by)  # before the gates are asked about such a time
    made = made or draft(environment, release, kind, strategy)
    if plan_digest and plan_digest != made.plan.digest:
        words = "What runs there, or what is done before, has changed since you read the plan."
        raise Conflict(f"{words} Read it again, then ask.")
    if not made.plan.steps:
        raise Invalid(f"Nothing to do: {release.version} runs on every instance of {environment.slug} already.")

    def attach(operation: Operation) -> None:
        _write_down(operation, environment, release, kind, made)

    demand = demand_of(environment)
    later = made.gates
    if scheduled_for:
        is_made = makes_backup(made.plan.as_json())
        later = gates_for(environment, release, kind=kind, planned=scheduled_for, seen=made.seen, makes_backup=is_made)
    return request(
        actor,
        kind=KIND,
        title=made.title,
        scopes=[environment.slug],
        plan=made.plan,
        gates=later,
        reason=reason,
        approvals_required=demand.count,
        approver_groups=demand.groups,
        scheduled_for=scheduled_for,
        start_by=start_by,
        attach=attach,
    )


def _write_down(operation: Operation, environment: Environment, release: Release, kind: str, made: Draft) -> None:
    Deployment.objects.create(
        operation=operation,
        kind=kind,
        environment=environment,
        release=release,
        strategy=made.strategy,
        from_version=versions(made.running),
        from_digest=next((one.digest for one in made.running if one.digest), ""),
    )
    follow(operation, release, environment)


def rollback_release(placement: Placement) -> Release | None:
    """The release that ran before the one that runs now, if a deployment or an adoption knows it.

    Both are what should have run: what somebody had started by hand, and a deployment removed, is none of them.
    Not the one that a rollback left: before what it came back to ran what that replaced when it came there.
    """
    came = placement.arrivals.filter(digest=placement.digest).exclude(over_digest="")
    forth = came.filter(Q(operation__deployment__kind=Deployment.Kind.DEPLOY) | Q(operation__kind=ADOPTION))
    last = forth.order_by("-pk").first()
    if last is None:
        return None
    return releases_with(placement.service_id, [last.over_digest], several(last.over_version)).first()
