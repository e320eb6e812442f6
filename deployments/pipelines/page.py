"""The page of pipelines: whom we trust to report releases, and what GitHub told us last."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from controlplane.audit.record import record_denied
from controlplane.operations.keyset import Page, key_in, page_of
from deployments.listing import visible_services
from deployments.models import CommitNotice, Pipeline, ReleaseReport, WebhookDelivery

TROUBLES = 10


def visible_pipelines(actor: Actor) -> QuerySet[Pipeline]:
    """The pipelines of a service that has a place in an environment this person sees; who sees all, sees all."""
    rows = Pipeline.objects.all()
    if actor.scopes(Role.VIEWER) is None:
        return rows
    return rows.filter(services__overlap=list(visible_services(actor).values_list("slug", flat=True)))


def load_pipeline(actor: Actor, known: Sequence[Pipeline], slug: str) -> Pipeline:
    """The one of these, or Http404 for who may not see it."""
    found = next((one for one in known if one.slug == slug), None)
    if found is not None:
        return found
    if Pipeline.objects.filter(slug=slug).exists():
        words = "They see no environment in which one of its services has a place."
        record_denied(actor.who, "access.denied", f"see pipeline {slug}", reason=words)
    raise Http404("There is no such pipeline.")


@dataclass
class PipelinesPage:
    """Asked for part by part. chosen: the pipeline whose deliveries are shown, None where there is none."""

    actor: Actor
    pipelines: Sequence[Pipeline]
    chosen: Pipeline | None
    before: int = 0
    after: int = 0

    @cached_property
    def deliveries(self) -> Page[WebhookDelivery]:
        """The newest deliveries of the chosen one, by the key at the page's edge; of the releases, those seen."""
        page = page_of(WebhookDelivery.objects.filter(pipeline=self.chosen), self.before, self.after)
        for one in page.rows:
            # For the template; nobody saves the row.
            one.answer = {**one.answer, "releases": self._seen(one.answer.get("releases", []))}
        return page

    def _seen(self, releases: Sequence[str]) -> list[str]:
        """Of releases as deliveries name them ("api 1.5.0"), those of services that the person sees."""
        return [name for name in releases if self._services is None or name.partition(" ")[0] in self._services]

    @cached_property
    def _services(self) -> frozenset[str] | None:
        """Those that the person sees, None for all: a pipeline may serve others beside them."""
        if self.actor.scopes(Role.VIEWER) is None:
            return None
        return frozenset(visible_services(self.actor).values_list("slug", flat=True))

    @cached_property
    def reports(self) -> list[ReleaseReport]:
        """The releases of services that the person sees which it made known last."""
        rows = ReleaseReport.objects.filter(pipeline=self.chosen).select_related("release__service", "pipeline")
        seen = rows if self._services is None else rows.filter(release__service__slug__in=self._services)
        return list(seen.order_by("-release_id")[:TROUBLES])

    @cached_property
    def troubles(self) -> list[CommitNotice]:
        """What its commits could not be told so far, in the environments that the person sees."""
        scopes = self.actor.scopes(Role.VIEWER)
        rows = CommitNotice.objects.filter(pipeline=self.chosen, done=False).exclude(error="")
        seen = rows if scopes is None else rows.filter(environment__in=scopes)
        return list(seen.select_related("operation").order_by("next_at")[:TROUBLES])


def page_for(actor: Actor, named: str, before: int, after: int) -> PipelinesPage:
    """named: the pipeline that is looked at, "" for the first that takes webhooks. Raises Http404."""
    last = WebhookDelivery.objects.filter(pipeline=OuterRef("pk")).order_by("-pk").values("at")[:1]
    known: Sequence[Pipeline] = list(visible_pipelines(actor).annotate(heard_at=Subquery(last)))
    if named:
        chosen: Pipeline | None = load_pipeline(actor, known, named)
    else:
        chosen = next((one for one in known if one.webhook_secret), known[0] if known else None)
    return PipelinesPage(actor, known, chosen, before, after)


@signed_in
@require_GET
def pipelines(request: HttpRequest) -> HttpResponse:
    """Who may report releases, and the deliveries of one of them."""
    keys = key_in(request.GET.get("before", "")), key_in(request.GET.get("after", ""))
    page = page_for(actor_of(request), request.GET.get("pipeline", ""), *keys)
    return render(
        request, "deployments/pipelines.html", {"pipelines": page, "page": page.deliveries if page.chosen else None}
    )
