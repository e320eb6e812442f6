"""Who asks for a live stream: the same session or bearer token as for a page, read without Django's middleware."""

from collections.abc import MutableMapping
from importlib import import_module
from io import BytesIO
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest

from controlplane.accounts import tokens
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person

BEARER = "bearer "
NUL = "\0"  # PostgreSQL has no such text, so it cannot even be looked for


def authenticate(scope: MutableMapping[str, Any]) -> Actor | None:
    """The actor behind an ASGI request, None for a stranger. Asks the database, so call it in a thread."""
    request = ASGIRequest(scope, BytesIO())
    header = request.headers.get("Authorization", "")
    if header.lower().startswith(BEARER):
        return tokens.authenticate(header[len(BEARER) :].strip())
    sessions = import_module(settings.SESSION_ENGINE)
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    request.session = sessions.SessionStore(None if key and NUL in key else key)
    person = get_user(request)
    return Actor(person) if isinstance(person, Person) else None
