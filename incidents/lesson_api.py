"""Post-mortems, action items, messages and reports for programs: the same functions as the pages call."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Query, Router
from pydantic import BaseModel, Field, StringConstraints

from controlplane.accounts.api import ApiRequest
from controlplane.accounts.models import Role
from controlplane.operations.api import ACTING
from controlplane.operations.idempotency import DESCRIPTION, answer_once
from controlplane.operations.keyset import page_of
from controlplane.web.bodies import Body, Reason, Words
from controlplane.web.problems import problems
from controlplane.web.queries import Number, Parameters
from incidents.access import load_incident, visible_incidents
from incidents.lessons import action_items, documents
from incidents.message_views import visible_deliveries
from incidents.models import ActionItem, Delivery, Incident, Postmortem
from incidents.oncall.services import active_person
from incidents.reports import Report, Times

router = Router(tags=["incidents"])

AT_MOST = 100
DOCUMENT = "/incidents/{int:incident_id}/post-mortem"
DocumentState = Literal["draft", "review", "published"]
ItemState = Literal["open", "done", "verified", "dropped"]
MessageState = Literal["queued", "sending", "accepted", "delivered", "seen", "failed", "cancelled"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=100_000, pattern=r"^[^\x00]*$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
Username = Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=r"^[^\x00]*$")]
Version = Annotated[int, Field(ge=0, le=2**31 - 1)]
Day = Annotated[date, Field(strict=False)]


class PostmortemOut(BaseModel):
    """The last version. body: Markdown; [#12] cites an entry of the timeline."""

    incident: int
    state: DocumentState
    version: int
    body: str
    author: str
    published_at: datetime | None


class TextIn(Body):
    """version: the one that was read; a 409 when somebody has written one since."""

    body: Text
    version: Version


class DocumentStateIn(Body):
    state: DocumentState


class ReviewIn(Body):
    """A reviewer's word on a version."""

    state: Literal["approved", "changes"]
    version: Version
    comment: Words = ""


class ItemOut(BaseModel):
    """What is to be done so that it does not happen again. words: the evidence, or why it was dropped."""

    id: int
    incident: int
    title: str
    owner: str
    due_on: date
    verification: str
    state: ItemState
    words: str


class ItemIn(Body):
    title: Line
    owner: Username
    due_on: Day
    verification: Line


class ItemQuery(Parameters):
    """Which action items; "" leaves the filter out."""

    state: Literal["", "open", "done", "verified", "dropped"] = ""
    before: Number = 0


class SettleIn(Body):
    """How it ended, with what shows it, or why."""

    state: Literal["done", "verified", "dropped", "open"]
    words: Reason


class MessageOut(BaseModel):
    """One message to one provider, and what became of it."""

    id: int
    incident: int | None
    purpose: Literal["page", "notice", "acknowledge", "resolve"]
    channel: str
    person: str
    state: MessageState
    attempts: int
    error: str
    queued_at: datetime
    accepted_at: datetime | None
    delivered_at: datetime | None
    seen_at: datetime | None


class MessageQuery(Parameters):
    """incident: the number of one; 0 for all."""

    incident: Number = 0
    before: Number = 0


class ReportQuery(Parameters):
    """days: 30, 90 or 365."""

    days: Literal["", "30", "90", "365"] = ""


class TimesOut(BaseModel):
    """Seconds from the opening: median, and what nine in ten took at most. null: none has such a time yet."""

    count: int
    acknowledge_median: float | None
    acknowledge_nine_in_ten: float | None
    resolve_median: float | None
    resolve_nine_in_ten: float | None


class ReportOut(BaseModel):
    """How incidents went in the last days."""

    since: datetime
    until: datetime
    whole: TimesOut


# --- post-mortems -------------------------------------------------------------------------------------


def _document(incident: Incident) -> Postmortem:
    return get_object_or_404(Postmortem, incident=incident)


def postmortem_out(postmortem: Postmortem) -> PostmortemOut:
    """A post-mortem as programs see it."""
    last, state = postmortem.versions.order_by("-number").first(), postmortem.state
    found: Any = state
    return PostmortemOut(
        incident=postmortem.incident_id, state=found, version=postmortem.version, body=last.body if last else "",
        author=last.author_name if last else "", published_at=postmortem.published_at,
    )  # fmt: skip


@router.get(DOCUMENT, response={200: PostmortemOut, **problems(403, 404)}, summary="The post-mortem of an incident")
def incident_postmortem(request: ApiRequest, incident_id: int) -> PostmortemOut:
    """Its last version; there is one some seconds after the resolution."""
    return postmortem_out(_document(load_incident(request.auth, incident_id)))


CHANGED: dict[str, Any] = {"response": {200: PostmortemOut, **ACTING}, "openapi_extra": DESCRIPTION}


def _change(request: ApiRequest, incident_id: int, change: Callable[[], object], action: str) -> HttpResponse:
    found = load_incident(request.auth, incident_id, Role.OPERATOR)
    document = _document(found)

    def effect() -> PostmortemOut:
        change()
        document.refresh_from_db()
        return postmortem_out(document)

    return answer_once(request, effect, action=action, target=str(document), scopes=found.environments)


@router.post(f"{DOCUMENT}/versions", summary="Write the next version", **CHANGED)
def write_postmortem(request: ApiRequest, incident_id: int, body: TextIn) -> HttpResponse:
    """All versions stay."""
    actor = request.auth
    return _change(request, incident_id, lambda: documents.save(incident_id, actor, body.body, body.version),
                   "postmortem.save")  # fmt: skip


@router.post(f"{DOCUMENT}/state", summary="Hand it in, publish it, or take it back", **CHANGED)
def move_postmortem(request: ApiRequest, incident_id: int, body: DocumentStateIn) -> HttpResponse:
    """Published only with the approval of somebody who did not write the last version."""
    actor = request.auth
    return _change(request, incident_id, lambda: documents.to_state(incident_id, actor, body.state), "postmortem.state")


@router.post(f"{DOCUMENT}/reviews", summary="Approve a version, or want changes", **CHANGED)
def review_postmortem(request: ApiRequest, incident_id: int, body: ReviewIn) -> HttpResponse:
    """Never of one's own version."""
    actor = request.auth
    return _change(
        request, incident_id,
        lambda: documents.review(incident_id, actor, body.state, body.comment, body.version), "postmortem.review",
    )  # fmt: skip


# --- action items -------------------------------------------------------------------------------------


def item_out(item: ActionItem) -> ItemOut:
    """An action item as programs see it."""
    state: Any = item.state
    return ItemOut(
        id=item.pk, incident=item.incident_id, title=item.title, owner=item.owner_name, due_on=item.due_on,
        verification=item.verification, state=state, words=item.words,
    )  # fmt: skip


@router.get("/action-items", response={200: list[ItemOut], **problems(422)}, summary="Action items, the newest first")
def items(request: ApiRequest, wanted: Annotated[ItemQuery, Query()]) -> list[ItemOut]:
    """The newest 100 that fit, with a number below `before`; ask again with the last number for more."""
    rows = ActionItem.objects.filter(incident__in=visible_incidents(request.auth).values("pk"))
    rows = rows.filter(state=wanted.state) if wanted.state else rows
    return [item_out(one) for one in page_of(rows, wanted.before, size=AT_MOST).rows]


@router.post(
    "/incidents/{int:incident_id}/action-items", response={201: ItemOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Write down what is to be done",
)  # fmt: skip
def add_item(request: ApiRequest, incident_id: int, body: ItemIn) -> HttpResponse:
    """By whom, until when, and how one will know; the owner is told."""
    actor, found = request.auth, load_incident(request.auth, incident_id, Role.OPERATOR)

    def effect() -> ItemOut:
        return item_out(action_items.add(
            incident_id, actor, title=body.title, owner=active_person(body.owner), due_on=body.due_on,
            verification=body.verification,
        ))  # fmt: skip

    return answer_once(request, effect, action="action_item.add", target=str(found), scopes=found.environments,
                       status=201)  # fmt: skip


@router.post(
    "/action-items/{int:item_id}/state", response={200: ItemOut, **ACTING}, openapi_extra=DESCRIPTION,
    summary="Done, verified, dropped, or open again",
)  # fmt: skip
def settle_item(request: ApiRequest, item_id: int, body: SettleIn) -> HttpResponse:
    """Verified by somebody other than its owner."""
    actor, item = request.auth, ActionItem.objects.filter(pk=item_id).first()
    if item is None:
        raise Http404
    found = load_incident(actor, item.incident_id, Role.OPERATOR)
    moves = {"done": action_items.done, "verified": action_items.verify, "dropped": action_items.drop,
             "open": action_items.reopen}  # fmt: skip
    return answer_once(request, lambda: item_out(moves[body.state](item_id, actor, body.words)),
                       action="action_item.settle", target=f"action item {item_id}",
                       scopes=found.environments)  # fmt: skip


# --- messages, reports --------------------------------------------------------------------------------


@router.get("/messages", response={200: list[MessageOut], **problems(422)}, summary="What left for people")
def messages_sent(request: ApiRequest, wanted: Annotated[MessageQuery, Query()]) -> list[MessageOut]:
    """The newest 100 with a number below `before`, and what became of them."""
    rows = visible_deliveries(request.auth)
    rows = rows.filter(incident=wanted.incident) if wanted.incident else rows
    return [_message_out(one) for one in page_of(rows, wanted.before, size=AT_MOST).rows]


def _message_out(delivery: Delivery) -> MessageOut:
    same = ("purpose", "channel", "state", "attempts", "error", "queued_at", "accepted_at", "delivered_at", "seen_at")
    return MessageOut(
        id=delivery.pk, incident=delivery.incident_id, person=delivery.page.person_name if delivery.page else "",
        **{name: getattr(delivery, name) for name in same},
    )  # fmt: skip


@router.get("/reports", response={200: ReportOut, **problems(422)}, summary="How incidents went")
def report(request: ApiRequest, wanted: Annotated[ReportQuery, Query()]) -> ReportOut:
    """Of those that this person sees, in the last 90 days or as many as are asked for."""
    found = Report(request.auth, wanted.days)
    return ReportOut(since=found.since, until=found.until, whole=_times_out(found.whole))


def _times_out(times: Times) -> TimesOut:
    acknowledge, resolve = times.acknowledge or (None, None), times.resolve or (None, None)
    return TimesOut(
        count=times.count, acknowledge_median=acknowledge[0], acknowledge_nine_in_ten=acknowledge[1],
        resolve_median=resolve[0], resolve_nine_in_ten=resolve[1],
    )  # fmt: skip
