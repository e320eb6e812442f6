"""The page of the auditor: what it looks at, when it last did, and what it found."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from controlplane.accounts.access import actor_of, require, signed_in
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from incidents.auditor_board import is_silent, last_beat, promises
from incidents.models import AuditorAlarm, AuditorBeat

OPEN_AT_MOST = 200
LATELY = 20


@signed_in
@require_GET
def auditor(request: HttpRequest) -> HttpResponse:
    """Every promise, whether it holds, open alarms, and those that are over. For viewers of the whole installation."""
    require(actor_of(request), Role.VIEWER, [], "open the page of the auditor")
    alarms = list(AuditorAlarm.objects.filter(over_at=None).order_by("-id")[:OPEN_AT_MOST])
    beat = last_beat()
    context = {
        "promises": promises(alarms),
        "alarms": alarms,
        "over": AuditorAlarm.objects.filter(over_at__isnull=False).order_by("-id")[:LATELY],
        "auditors": AuditorBeat.objects.order_by("-beat_at")[:LATELY],
        "beat": beat,
        "silent": is_silent(beat, database_time()),
    }
    return render(request, "incidents/auditor.html", context)
