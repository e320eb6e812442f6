"""The pages of deployments and releases: the history, a release, and the way to ask for a deployment."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.access import load_operation
from controlplane.operations.answers import status_of
from controlplane.operations.approvers import people_who_can
from controlplane.operations.errors import OperationError, StepError
from controlplane.operations.history import usual_seconds
from controlplane.operations.keyset import key_in, page_of
from controlplane.operations.planned import Planned
from deployments.commits import commits_of_deployment
from deployments.forms import DeploymentFilter, RequestForm
from deployments.ground import Ground, ground_of
from deployments.listing import load_release, visible_deployments, visible_releases, visible_services, where_they_run
from deployments.models import CommitNotice, Deployment, Release
from deployments.services import KIND, Draft, commits_of, draft, request_deployment, rollback_release, ways_to
from environments.access import load_environment, visible_environments
from environments.models import Environment, Placement

CHOICES = 20


@signed_in
@require_GET
def deployments(request: HttpRequest) -> HttpResponse:
    """The history: searched, filtered by its address, page by page."""
    actor = actor_of(request)
    filters = DeploymentFilter(request.GET)
    page = page_of(visible_deployments(actor).filter(filters.condition()), *_keys(request))
    context = {
        "page": page,
        "filters": filters,
        "environments": visible_environments(actor),
        "services": visible_services(actor),
    }
    return render(request, "deployments/deployments.html", context)


@signed_in
@require_GET
def releases(request: HttpRequest) -> HttpResponse:
    """All releases, the newest first, and where each runs."""
    actor = actor_of(request)
    service = request.GET.get("service", "")
    known = visible_releases(actor)
    page = page_of(known.filter(service__slug=service) if service else known, *_keys(request))
    places = where_they_run(actor, page.rows)
    rows = [(release, places[release.pk]) for release in page.rows]
    context = {"page": page, "rows": rows, "services": visible_services(actor), "service": service}
    return render(request, "deployments/releases.html", context)


@signed_in
@require_GET
def release(request: HttpRequest, service: str, version: str) -> HttpResponse:
    """One release: what it is, where it runs, where it went, where it may go."""
    actor = actor_of(request)
    found = load_release(actor, service, version)
    homes = Environment.objects.filter(placements__service=found.service)
    history = visible_deployments(actor).filter(release=found).order_by("-pk")[:CHOICES]
    context = {
        "release": found,
        "notices": CommitNotice.objects.filter(pk__in=[row.pk for row in history]).select_related("operation"),
        "places": where_they_run(actor, [found])[found.pk],
        "history": history,
        "targets": [home for home in homes if actor.may(Role.OPERATOR, [home.slug])],
    }
    return render(request, "deployments/release.html", context)


@signed_in
@require_GET
def commits(request: HttpRequest, pk: int) -> HttpResponse:
    """What a deployment brings or takes away, for whoever may see it: above all for who is asked to approve it."""
    operation = load_operation(actor_of(request), pk)
    related = Deployment.objects.select_related("environment", "release__service", "release__report__pipeline")
    deployment = get_object_or_404(related, operation=operation)
    context = {"operation": operation, "deployment": deployment, "between": commits_of_deployment(deployment)}
    return render(request, "deployments/commits.html", context)


def _keys(request: HttpRequest) -> tuple[int, int]:
    return key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))


# --- Asking for a deployment ----------------------------------------------------------------------------


@signed_in
@require_http_methods(["GET", "POST"])
def deploy(request: HttpRequest, slug: str) -> HttpResponse:
    """Choose a release, read the plan, ask for it."""
    actor = actor_of(request)
    environment = load_environment(actor, slug, Role.OPERATOR)
    placements = Placement.objects.filter(environment=environment).select_related("service")
    offered = Release.objects.filter(service__in=placements.values("service"))
    offered = offered.select_related("service", "report__pipeline")
    if wanted := key_in((request.POST or request.GET).get("release", "")):
        return _propose(request, actor, environment, get_object_or_404(offered, pk=wanted), Deployment.Kind.DEPLOY)
    service = request.GET.get("service", "")
    named = offered.filter(service__slug=service, version=request.GET.get("version", ""))
    if "version" in request.GET and (release := named.first()):
        return _propose(request, actor, environment, release, Deployment.Kind.DEPLOY)
    choices = offered.filter(service__slug=service) if service else offered
    context = {"environment": environment, "placements": placements, "choices": choices.order_by("-pk")[:CHOICES]}
    return render(request, "deployments/choose.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def rollback(request: HttpRequest, slug: str, service: str) -> HttpResponse:
    """Read the plan that goes back to what ran before, ask for it."""
    actor = actor_of(request)
    environment = load_environment(actor, slug, Role.OPERATOR)
    places = Placement.objects.select_related("environment", "service")
    placement = get_object_or_404(places, environment=environment, service__slug=service)
    earlier = rollback_release(placement)
    if earlier is None:
        return render(request, "deployments/no_rollback.html", {"environment": environment, "placement": placement})
    return _propose(request, actor, environment, earlier, Deployment.Kind.ROLLBACK)


def _propose(request: HttpRequest, actor: Actor, environment: Environment, release: Release, kind: str) -> HttpResponse:
    """The plan, and the form that asks for it: 422 keeps what was typed, 409 shows the plan as it is now."""
    ground = ground_of(environment, release)
    approvals = ground.policy.approvals_required
    initial = {"release": release}
    form = RequestForm(request.POST or None, initial=initial, environment=environment, approvals=approvals)
    status, problem = 200 if request.method == "GET" else 422, ""
    if form.is_valid():
        names = ("reason", "scheduled_for", "start_by", "plan_digest", "strategy")
        said = {name: form.cleaned_data[name] for name in names}
        try:
            return redirect(request_deployment(actor, environment=environment, release=release, kind=kind, **said))
        except OperationError as error:
            status = status_of(error, actor, "deployment.request", f"{release}", [environment.slug])
            problem = str(error)
        except StepError as error:
            status, problem = 409, str(error)
    strategy = (request.POST or request.GET).get("strategy", "")
    made, cannot = _drafted(environment, release, kind, strategy, ground)
    context = {"form": form, "problem": problem, "release": release, "environment": environment, "kind": kind}
    context["approvals"] = approvals
    context["ways"] = ways_to(ground, kind, made.strategy if made else strategy)
    return render(request, "deployments/request.html", context | _shown(actor, made, cannot), status=status)


def _drafted(
    environment: Environment, release: Release, kind: str, strategy: str, ground: Ground
) -> tuple[Draft | None, str]:
    try:
        return draft(environment, release, kind, strategy, ground), ""
    except (StepError, OperationError) as error:
        return None, str(error)


def _shown(actor: Actor, made: Draft | None, cannot: str) -> dict[str, object]:
    """What the page says of a draft, or why there is none."""
    if made is None:
        return {"cannot": cannot}
    environment = made.environment
    return {
        "draft": made,
        "planned": Planned(made.plan.as_json()),
        "refused": [gate for gate in made.gates if gate.outcome == "failed"],
        "usual": usual_seconds(KIND, [environment.slug]),
        "approvers": people_who_can(Role.APPROVER, [environment.slug], besides=actor.person.pk),
        "commits": commits_of(made),
    }
