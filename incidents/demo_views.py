"""Breaking the demo from the page of incidents: only there, and only for its operators."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from controlplane.accounts.access import actor_of, require, signed_in
from controlplane.accounts.models import Role
from controlplane.operations.answers import status_of
from controlplane.operations.errors import OperationError
from incidents import demo


@signed_in
@require_POST
def break_something(request: HttpRequest) -> HttpResponse:
    """Kill the instance named, or start what is missing."""
    actor = actor_of(request)
    require(actor, Role.OPERATOR, [demo.ENVIRONMENT], "break the demo")
    name = request.POST.get("instance", "")
    try:
        if name:
            demo.break_instance(actor.who, name)
            messages.warning(request, f"Killed {name}. An alert, an incident and a page follow within a minute.")
        else:
            demo.mend(actor.who)
            messages.success(request, "Every instance runs again.")
    except OperationError as error:
        status_of(error, actor, "demo.break", name, [demo.ENVIRONMENT])
        messages.error(request, str(error))
    return redirect("incidents")
