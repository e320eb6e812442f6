"""The pages of backups: how well everything is protected, the catalog, and one backup."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from backups import services
from backups.access import load_backup, visible_backups, visible_policies
from backups.forms import CatalogFilter
from backups.models import Backup
from backups.overview import overview as sites_of
from backups.page import BackupPage
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from controlplane.operations.keyset import key_in, page_of
from environments.access import visible_environments


@signed_in
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """What could be restored now, of which moment, proven when, in how long."""
    actor = actor_of(request)
    sites = sites_of(actor, details=True)
    context = {
        "sites": sites,
        "may_operate": [site.environment.slug for site in sites if actor.may(Role.OPERATOR, [site.environment.slug])],
    }
    return render(request, "backups/overview.html", context)


@signed_in
@require_GET
def catalog(request: HttpRequest) -> HttpResponse:
    """Every backup: searched, filtered by its address, page by page."""
    actor = actor_of(request)
    filters = CatalogFilter(request.GET)
    before, after = key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))
    context = {
        "page": page_of(visible_backups(actor).filter(filters.condition()), before, after),
        "filters": filters,
        "environments": visible_environments(actor),
        "policies": sorted({policy.slug for policy in visible_policies(actor)}),
    }
    return render(request, "backups/catalog.html", context)


@signed_in
@require_GET
def backup(request: HttpRequest, pk: int) -> HttpResponse:
    """One backup: what it holds, where it is, whether it restores, why it is kept."""
    actor = actor_of(request)
    return _page(request, actor, load_backup(actor, pk))


def _page(request: HttpRequest, actor: Actor, found: Backup, problem: str = "", status: int = 200) -> HttpResponse:
    context = {
        "backup": found,
        "page": BackupPage(actor, found),
        "may_operate": actor.may(Role.OPERATOR, [found.environment.slug]),
        "problem": problem,
        "said": request.POST,
    }
    return render(request, "backups/backup.html", context, status=status)


@signed_in
@require_POST
def test(request: HttpRequest, pk: int) -> HttpResponse:
    """Restore it into a scratch database now, and compare."""
    actor = actor_of(request)
    found = load_backup(actor, pk, Role.OPERATOR)
    try:
        reason = request.POST.get("reason", "") or "to know whether it restores"
        return redirect(services.request_proof(actor, found, reason=reason))
    except OperationError as error:
        status = status_of(error, actor, "backup.test", f"backup {pk}", [found.environment.slug])
        return _page(request, actor, found, str(error), status)


@signed_in
@require_POST
def hold(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep it whatever retention says, or let go of it again."""
    actor = actor_of(request)
    found = load_backup(actor, pk, Role.OPERATOR)
    change = services.let_go if request.POST.get("what") == "let go" else services.hold
    try:
        change(actor, found, request.POST.get("reason", ""))
    except OperationError as error:
        status = status_of(error, actor, "backup.hold", f"backup {pk}", [found.environment.slug])
        return _page(request, actor, found, str(error), status)
    return redirect(found)
