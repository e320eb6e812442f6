"""The calendar as a page, and as a file for calendar programs."""

from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.accounts import address_keys, tokens
from controlplane.accounts.access import Actor, actor_of, signed_in
from controlplane.accounts.models import Role
from deployments.insight.calendar import CalendarPage, entries_between, freezes_between
from deployments.insight.calendar_file import file_of
from environments.access import visible_environments

SALT = "deployments.insight.calendar"
BACK, FORTH = timedelta(days=35), timedelta(days=182)


@signed_in
@require_GET
def calendar(request: HttpRequest) -> HttpResponse:
    """A month or a week of deployments and freezes."""
    actor = actor_of(request)
    given = {name: request.GET.get(name, "") for name in ("view", "day", "environment")}
    key = address_keys.key_for(actor.person, SALT, "")
    address = request.build_absolute_uri(f"{reverse('calendar-ics')}?key={key}")
    context = {"page": CalendarPage(actor, **given), "address": address}
    return render(request, "deployments/calendar.html", context)


@require_GET
def ics(request: HttpRequest) -> HttpResponse:
    """For calendar programs: by a key in the address, by an API token, or for who is signed in.

    ?environment=SLUG: of one environment.
    """
    actor = _reader(request)
    if actor is None:
        words = "Copy the address of this calendar again from its page, or send an API token.\n"
        return HttpResponse(words, status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"})
    now, wanted = timezone.now(), request.GET.get("environment", "")
    places = [one for one in visible_environments(actor) if wanted in ("", one.slug)]
    entries = entries_between(actor, places, now - BACK, now + FORTH)
    body = file_of(entries, freezes_between(places, now - BACK, now + FORTH), now)
    disposition = {"Content-Disposition": 'inline; filename="deployments.ics"'}
    return HttpResponse(body, content_type="text/calendar; charset=utf-8", headers=disposition)


def _reader(request: HttpRequest) -> Actor | None:
    if key := request.GET.get("key", ""):
        person = address_keys.holder_of(key, SALT, "")
        return Actor(person, Role.VIEWER, "calendar") if person else None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return tokens.authenticate(token.strip())
    return actor_of(request) if request.user.is_authenticated else None
