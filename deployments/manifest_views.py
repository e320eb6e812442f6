"""The files that a driver would apply: to read, and to take along."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from controlplane.accounts.access import actor_of, signed_in
from controlplane.operations.errors import OperationError, StepError
from deployments.manifests import documents_of
from environments.access import load_environment
from environments.drivers.base import Document
from environments.models import Placement


@signed_in
@require_GET
def manifests(request: HttpRequest, slug: str, service: str) -> HttpResponse:
    """All files, or with ?file=NAME that one alone; ?version= for a release other than the deployed one."""
    environment = load_environment(actor_of(request), slug)
    placement = get_object_or_404(
        Placement.objects.select_related("service"), environment=environment, service__slug=service
    )
    version, name = request.GET.get("version", ""), request.GET.get("file", "")
    problem, documents = "", list[Document]()
    try:
        documents = documents_of(environment, service, version)
    except (OperationError, StepError) as error:
        problem = str(error)
    if name:
        return _file(documents, name)
    context = {"environment": environment, "placement": placement, "documents": documents, "problem": problem,
               "version": version}  # fmt: skip
    return render(request, "deployments/manifests.html", context, status=409 if problem else 200)


def _file(documents: list[Document], name: str) -> HttpResponse:
    found = next((one for one in documents if one.name == name), None)
    if found is None:
        raise Http404("There is no such file.")
    answer = HttpResponse(found.text, content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{found.name}"'
    return answer
