"""Environments for programs: what runs where since when, and how it is."""

from datetime import datetime

from ninja import Router
from pydantic import BaseModel

from controlplane.accounts.access import Actor
from controlplane.accounts.api import ApiRequest
from controlplane.operations.access import visible_operations
from controlplane.operations.models import Operation
from controlplane.operations.states import ACTIVE, State
from controlplane.web.problems import problems
from controlplane.web.tones import Tone
from environments.access import visible_environments
from environments.models import Environment, EnvironmentLock, Placement
from environments.samples import Health, InstanceHealth, health_of

router = Router(tags=["environments"])

HEALTHY = {Tone.OK: True, Tone.BAD: False}


class InstanceOut(BaseModel):
    """healthy: at its last probe, null if there was none lately. version: what it answered then, or ""."""

    name: str
    version: str
    healthy: bool | None


class ServiceOut(BaseModel):
    """A service here. version, digest, since: of the last deployment that succeeded. healthy: all its instances."""

    service: str
    version: str
    digest: str
    since: datetime | None
    healthy: bool | None
    instances: list[InstanceOut]


class LockOut(BaseModel):
    """Somebody's word that nothing may change here."""

    reason: str
    author: str
    since: datetime


class ActiveOut(BaseModel):
    """An operation that has not ended."""

    id: int
    title: str
    state: State


class EnvironmentOut(BaseModel):
    """lock: the newest that holds, or null."""

    slug: str
    name: str
    purpose: str
    url: str
    driver: str
    services: list[ServiceOut]
    lock: LockOut | None
    active_operations: list[ActiveOut]


@router.get("", response={200: list[EnvironmentOut], **problems()}, summary="What runs where")
def environments(request: ApiRequest) -> list[EnvironmentOut]:
    """The environments this person sees, in the company's order."""
    return environments_out(request.auth)


def environments_out(actor: Actor) -> list[EnvironmentOut]:
    """All of them in the same number of queries, however many there are."""
    shown = list(visible_environments(actor))
    placements = list(Placement.objects.filter(environment__in=shown).select_related("service"))
    health = health_of(placements)
    locks = EnvironmentLock.objects.filter(environment__in=shown, released_at=None).order_by("taken_at", "pk")
    newest = {lock.environment_id: lock for lock in locks}
    slugs = [environment.slug for environment in shown]
    active = visible_operations(actor).filter(state__in=ACTIVE, scopes__overlap=slugs)
    operations = list(active.only("id", "title", "state", "scopes").order_by("pk"))
    return [
        EnvironmentOut(
            slug=environment.slug,
            name=environment.name,
            purpose=environment.purpose,
            url=environment.url,
            driver=environment.driver,
            services=[_service(one, health[one.pk]) for one in placements if one.environment_id == environment.pk],
            lock=_lock(newest.get(environment.pk)),
            active_operations=_active(environment, operations),
        )
        for environment in shown
    ]


def _service(placement: Placement, health: Health) -> ServiceOut:
    return ServiceOut(
        service=placement.service.slug,
        version=placement.version,
        digest=placement.digest,
        since=placement.since,
        healthy=HEALTHY.get(health.tone),
        instances=[_instance(instance) for instance in health.instances],
    )


def _instance(instance: InstanceHealth) -> InstanceOut:
    return InstanceOut(name=instance.instance, version=instance.version, healthy=HEALTHY.get(instance.tone))


def _lock(lock: EnvironmentLock | None) -> LockOut | None:
    return LockOut(reason=lock.reason, author=lock.author_name, since=lock.taken_at) if lock else None


def _active(environment: Environment, operations: list[Operation]) -> list[ActiveOut]:
    here = [operation for operation in operations if environment.slug in operation.scopes]
    return [ActiveOut(id=one.pk, title=one.title, state=State(one.state)) for one in here]
