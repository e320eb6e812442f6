"""Who a browser's session belongs to, for an application in front of Django's middleware."""

from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest, parse_cookie

from controlplane.live.requests import cookies
from controlplane.live.viewers import Scope


def person_of(scope: Scope) -> AbstractBaseUser | None:
    """The signed-in person, checked as Django does on every page (age, password change, active); None for nobody."""
    key = parse_cookie(cookies(scope)).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    return user if isinstance(user, AbstractBaseUser) and user.is_authenticated else None
