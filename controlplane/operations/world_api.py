"""The one switch, for programs."""

from collections.abc import Callable
from datetime import datetime

from django.http import HttpResponse
from ninja import Router
from pydantic import BaseModel

from controlplane.accounts.access import require
from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations import world
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.web.bodies import Body, Reason, Words
from controlplane.web.problems import problems

router = Router(tags=["world"])
ACTING = problems(403, 409, 413, 415, 422)


class WorldOut(BaseModel):
    """stopped: nothing starts, and what runs stands still at its next safe point. by, reason, at: of the stop."""

    stopped: bool
    by: str = ""
    reason: str = ""
    at: datetime | None = None


class StopIn(Body):
    reason: Reason


class GoOnIn(Body):
    reason: Words = ""


def _out() -> WorldOut:
    halt = world.standing()
    if halt is None:
        return WorldOut(stopped=False)
    return WorldOut(stopped=True, by=halt.by_name, reason=halt.reason, at=halt.at)


@router.get("", response={200: WorldOut, **problems()}, summary="Whether everything is stopped")
def world_state(request: ApiRequest) -> WorldOut:
    """Anybody may know; only admins of the whole installation may change it."""
    return _out()


def _act(request: ApiRequest, action: str, act: Callable[[], object]) -> HttpResponse:
    require(request.auth, Role.ADMIN, [], world.TARGET)

    def effect() -> WorldOut:
        act()
        return _out()

    return answer_once(request, effect, action=action, target=world.TARGET)


@router.post("/stop", response={200: WorldOut, **ACTING}, summary="Stop the world", openapi_extra=DESCRIPTION)
def stop_world(request: ApiRequest, body: StopIn) -> HttpResponse:
    """Hold every queue: nothing starts, and what runs stands still at its next safe point. Admins only."""
    return _act(request, "world.stop", lambda: world.stop(request.auth, body.reason))


@router.post("/release", response={200: WorldOut, **ACTING}, summary="Let it go on", openapi_extra=DESCRIPTION)
def release_world(request: ApiRequest, body: GoOnIn) -> HttpResponse:
    """Everything goes on from where it stands. Admins only."""
    return _act(request, "world.release", lambda: world.release(request.auth, body.reason))
