"""The pages of operations: one operation, what one may do with it, its log, and the inbox of approvals."""

from collections.abc import AsyncIterator, Callable

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations import approvals as signatures
from controlplane.operations import transitions
from controlplane.operations.access import load_operation
from controlplane.operations.answers import status_of
from controlplane.operations.bypasses import waiting_for
from controlplane.operations.deed_page import DeedPage
from controlplane.operations.errors import OperationError
from controlplane.operations.forms import AnswerForm, LogQuery
from controlplane.operations.inbox import inbox
from controlplane.operations.lines import as_html, lines_between
from controlplane.operations.models import Operation
from controlplane.operations.planned import Planned
from controlplane.operations.presentation import Status
from controlplane.operations.states import BEFORE_START, Answer, State
from controlplane.web.returning import go_back

LAST_LINES = 300  # as many as fit a page of 100 KB
DOWNLOAD_CHUNK = 5000


@signed_in
@require_GET
def approvals(request: HttpRequest) -> HttpResponse:
    """What waits for an approval: this person's first, then the others', then what was decided."""
    template = "operations/_inbox.html" if request.htmx else "operations/approvals.html"  # type: ignore[attr-defined]
    actor = actor_of(request)
    return render(request, template, {"inbox": inbox(actor), "reviews": waiting_for(actor).count()})


@signed_in
@require_GET
def nav_counts(request: HttpRequest) -> HttpResponse:
    """What the navigation counts for this person, fetched again on news."""
    return render(request, "web/_nav_counts.html")


@signed_in
@require_GET
def operation(request: HttpRequest, pk: int) -> HttpResponse:
    """One operation, from its request to its end."""
    return _page(request, load_operation(actor_of(request), pk))


def _page(request: HttpRequest, operation: Operation, problem: str = "", status: int = 200) -> HttpResponse:
    context = _actions(actor_of(request), operation) | {
        "lines": as_html(lines_between(operation.pk, operation.last_seq - LAST_LINES + 1, operation.last_seq)),
        "planned": Planned(operation.plan),
        "done": DeedPage(operation),
        "problem": problem,
        "said": request.POST,
    }
    return render(request, "operations/operation.html", context, status=status)


def _actions(actor: Actor, operation: Operation) -> dict[str, object]:
    """What this person may do with it now, or why they may not."""
    waits = operation.state == State.AWAITING_APPROVAL
    given = signatures.valid_approvals(operation) if waits else []
    groups = signatures.missing_groups(signatures.demand_of(operation), given) if waits else []
    return {
        "operation": operation,
        "status": Status(operation),
        "why_not": signatures.why_not(operation, actor) if waits else "",
        "missing": max(operation.approvals_required - len(given), len(groups)),
        "groups": groups,
        "may_operate": actor.may(Role.OPERATOR, operation.scopes),
        "before_start": operation.state in BEFORE_START,
        "answers": Answer.choices,
    }


@signed_in
@require_GET
def status(request: HttpRequest, pk: int) -> HttpResponse:
    """The parts of the page that are the same for every viewer, as the stream sends them."""
    operation = load_operation(actor_of(request), pk)
    return render(request, "operations/_status.html", {"operation": operation, "status": Status(operation)})


@signed_in
@require_GET
def actions(request: HttpRequest, pk: int) -> HttpResponse:
    """What is asked of this person, as it is now."""
    actor = actor_of(request)
    return render(request, "operations/_actions.html", _actions(actor, load_operation(actor, pk)))


@signed_in
@require_GET
def deed(request: HttpRequest, pk: int) -> HttpResponse:
    """What was done, beside what was approved."""
    operation = load_operation(actor_of(request), pk)
    return render(request, "operations/_deed.html", {"operation": operation, "done": DeedPage(operation)})


# --- What people do -----------------------------------------------------------------------------------


def _act(request: HttpRequest, pk: int, role: Role, action: str, act: Callable[[Actor], object]) -> HttpResponse:
    """Do it and go back to the page, or show the page with the words that say why not.

    next: another page of ours that has the form, such as the one of a failover.
    """
    actor = actor_of(request)
    operation = load_operation(actor, pk, role)
    try:
        act(actor)
    except OperationError as error:
        refused = status_of(error, actor, f"operation.{action}", f"operation {pk}", operation.scopes)
        operation.refresh_from_db()
        return _page(request, operation, str(error), refused)
    return go_back(request, operation.get_absolute_url())


@signed_in
@require_POST
def approve(request: HttpRequest, pk: int) -> HttpResponse:
    """Sign the plan that was read."""
    digest, comment = request.POST.get("plan_digest", ""), request.POST.get("comment", "")
    return _act(request, pk, Role.VIEWER, "approve", lambda actor: transitions.approve(pk, actor, digest, comment))


@signed_in
@require_POST
def reject(request: HttpRequest, pk: int) -> HttpResponse:
    """Say no to the plan that was read."""
    digest, comment = request.POST.get("plan_digest", ""), request.POST.get("comment", "")
    return _act(request, pk, Role.VIEWER, "reject", lambda actor: transitions.reject(pk, actor, digest, comment))


@signed_in
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Stop it, at its next safe point once it runs."""
    reason = request.POST.get("reason", "")
    return _act(request, pk, Role.OPERATOR, "cancel", lambda actor: transitions.cancel(pk, actor, reason))


@signed_in
@require_POST
def resolve(request: HttpRequest, pk: int) -> HttpResponse:
    """Say what is true of a step whose end is not known."""
    form = AnswerForm(request.POST)
    return _act(request, pk, Role.OPERATOR, "resolve", lambda actor: transitions.resolve(pk, actor, **form.said()))


# --- The log ------------------------------------------------------------------------------------------


@signed_in
@require_GET
def log(request: HttpRequest, pk: int) -> HttpResponse:
    """Part of the log: `<li>`s for the page's script, a page of its own for a form without one."""
    operation = load_operation(actor_of(request), pk)
    query = LogQuery(request.GET)
    lines = query.lines(operation)
    if request.htmx:  # type: ignore[attr-defined]
        return HttpResponse(as_html(lines))
    context = {"operation": operation, "query": query, "lines": as_html(lines), "count": len(lines)}
    return render(request, "operations/log.html", context)


@signed_in
@require_GET
def log_download(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The whole log as text, streamed."""
    operation = load_operation(actor_of(request), pk)
    name = f"operation-{pk}.log"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(_text(operation.pk), content_type="text/plain; charset=utf-8", headers=headers)


async def _text(operation_id: int) -> AsyncIterator[str]:
    last = 0
    while lines := await sync_to_async(lines_between)(operation_id, last + 1, last + DOWNLOAD_CHUNK):
        last = lines[-1].seq
        yield "".join(f"{line.plain}\n" for line in lines)
