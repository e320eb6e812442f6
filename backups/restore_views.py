"""The way to a restore: say what you want back, read the plan, ask for it."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from backups.access import load_backup
from backups.charts import WindowBar, window_bar
from backups.forms import AskForm, WishForm
from backups.models import Backup, Kind
from backups.restore_services import RestoreDraft, draft_restore, request_restore
from backups.window import recoverable
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.answers import status_of
from controlplane.operations.approvers import people_who_can
from controlplane.operations.errors import OperationError
from controlplane.operations.planned import Planned


@signed_in
@require_http_methods(["GET", "POST"])
def restore(request: HttpRequest, pk: int) -> HttpResponse:
    """Both pages: without a wish the first one, with it the plan. 422 keeps what was typed, 409 shows the plan anew."""
    actor = actor_of(request)
    backup = load_backup(actor, pk, Role.OPERATOR)
    wished = WishForm(request.GET if "target" in request.GET else None, backup=backup)
    if not wished.is_bound:
        return _ask_what(request, backup, wished)
    if not wished.is_valid():
        return _ask_what(request, backup, wished, status=422)
    try:
        made = draft_restore(backup, wished.wish())
    except OperationError as error:
        return _ask_what(request, backup, wished, problem=str(error), status=422)
    return _propose(request, actor, made)


def _ask_what(
    request: HttpRequest, backup: Backup, form: WishForm, *, problem: str = "", status: int = 200
) -> HttpResponse:
    bar: WindowBar | None = None
    if backup.kind == Kind.PITR and backup.policy is not None:
        bar = window_bar(recoverable(backup.policy), database_time())
    context = {"backup": backup, "form": form, "problem": problem, "bar": bar}
    return render(request, "backups/wish.html", context, status=status)


def _propose(request: HttpRequest, actor: Actor, made: RestoreDraft) -> HttpResponse:
    environment = made.backup.environment
    form = AskForm(request.POST or None, name=environment.slug if made.is_live else "")
    status, problem = 200 if request.method == "GET" else 422, ""
    if form.is_valid():
        said = {name: form.cleaned_data[name] for name in ("reason", "plan_digest")}
        try:
            return redirect(request_restore(actor, made.backup, made.wish, **said))
        except OperationError as error:
            status = status_of(error, actor, "restore.request", f"backup {made.backup.pk}", [environment.slug])
            problem = str(error)
    form.initial["plan_digest"] = made.plan.digest
    context = {
        "backup": made.backup,
        "draft": made,
        "planned": Planned(made.plan.as_json()),
        "form": form,
        "problem": problem,
        "refused": [gate for gate in made.gates if gate.outcome == "failed"],
        "approvers": people_who_can(Role.APPROVER, [environment.slug], besides=actor.person.pk),
    }
    return render(request, "backups/restore.html", context, status=status)
