"""Signing in and out, as the audit trail tells it. Connected to Django's signals in `apps.py`.

What was typed is kept only where it is the name of somebody: people type their password there, too.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import Who, record

NOBODY = Who("somebody", None, "web")


def signed_in(request: HttpRequest, user: Person, **_: Any) -> None:
    """Somebody gave their password."""
    with transaction.atomic():
        record(Actor(user).who, "sign-in.done", f"person {user.username}", data=_from(request))


def signed_out(request: HttpRequest, user: Person | None, **_: Any) -> None:
    """Somebody ended their session."""
    if user is not None:
        with transaction.atomic():
            record(Actor(user).who, "sign-in.ended", f"person {user.username}")


def failed(credentials: Mapping[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """A wrong name or password, or, from the attempt that closes it on, a name closed to an address for a while.

    Each failure until then is kept, and after that one entry a closing; of names that nobody has, as many for an
    address in that time as for one name: a flood does not fill the trail.
    """
    if request is None:
        return
    known = Person.objects.filter(username=credentials.get("username", "")).first()
    target = f"person {known.username}" if known else "an unknown name"
    failures = getattr(request, "axes_failures_since_start", None) or 0
    if known is None and _so_far(request) >= settings.AXES_FAILURE_LIMIT:
        return
    with transaction.atomic():
        if failures < settings.AXES_FAILURE_LIMIT:
            reason = "wrong password" if known else "no such person"
            record(NOBODY, "sign-in.failed", target, reason=reason, data=_from(request))
        elif not _told(target, request):
            reason = f"closed after {settings.AXES_FAILURE_LIMIT} failures in a row"
            record(NOBODY, "sign-in.closed", target, reason=reason, data=_from(request))


def _so_far(request: HttpRequest) -> int:
    """How many entries about unknown names this address has brought lately."""
    since = timezone.now() - timedelta(hours=settings.AXES_COOLOFF_TIME)
    return Entry.objects.filter(at__gte=since, target="an unknown name", data=_from(request)).count()


def _told(target: str, request: HttpRequest) -> bool:
    since = timezone.now() - timedelta(hours=settings.AXES_COOLOFF_TIME)
    told = Entry.objects.filter(action="sign-in.closed", at__gte=since, target=target, data=_from(request))
    return told.exists()


def _from(request: HttpRequest) -> dict[str, str]:
    return {"address": request.META.get("REMOTE_ADDR", "")}
