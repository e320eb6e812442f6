"""Rules that were set aside and their reviews, for programs."""

from datetime import datetime

from django.http import Http404, HttpResponse
from ninja import Router
from pydantic import BaseModel

from controlplane.accounts.api import ApiRequest
from controlplane.operations import bypasses
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.models import Bypass
from controlplane.web.bodies import Body, Reason
from controlplane.web.problems import problems

router = Router(tags=["break-glass"])


class BypassOut(BaseModel):
    """A rule that people set aside. reviewed_by, review: "" until an approver who took no part has reviewed it."""

    id: int
    what: str
    environments: list[str]
    people: list[str]
    reason: str
    at: datetime
    until: datetime
    reviewed_by: str
    review: str


class BypassReviewIn(Body):
    words: Reason


def _out(bypass: Bypass) -> BypassOut:
    return BypassOut(
        id=bypass.pk,
        what=bypass.what,
        environments=bypass.scopes,
        people=bypass.people_names,
        reason=bypass.reason,
        at=bypass.at,
        until=bypass.until,
        reviewed_by=bypass.reviewed_by_name,
        review=bypass.review,
    )


@router.get("", response={200: list[BypassOut], **problems()}, summary="Rules that were set aside")
def list_bypasses(request: ApiRequest) -> list[BypassOut]:
    """The newest 100 of the environments that you see, whether reviewed or not."""
    return [_out(one) for one in bypasses.visible(request.auth).order_by("-pk")[:100]]


@router.post(
    "/{int:bypass_id}/review",
    response={200: BypassOut, **problems(403, 404, 409, 413, 415, 422)},
    summary="Review one",
    openapi_extra=DESCRIPTION,
)
def review_bypass(request: ApiRequest, bypass_id: int, body: BypassReviewIn) -> HttpResponse:
    """Say what to make of it, as an approver who took no part (403 for everybody else)."""
    found = bypasses.visible(request.auth).filter(pk=bypass_id).first()
    if found is None:
        raise Http404

    def effect() -> BypassOut:
        return _out(bypasses.review(request.auth, bypass_id, body.words))

    target = f"bypass {bypass_id}"
    return answer_once(request, effect, action="bypass.review", target=target, scopes=found.scopes)
