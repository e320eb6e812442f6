"""Django's views for signing in and out, which lead to a page of ours and never to one of these two again."""

from urllib.parse import urlsplit

from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest
from django.urls import reverse

from controlplane.accounts.forms import SignInForm
from controlplane.web.returning import way_back


class SignIn(LoginView):
    """By name and password; who is signed in already goes on."""

    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """The page that was asked for, "" for none."""
        return _onwards(request or self.request)


class SignOut(LogoutView):
    """The end of the session."""

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """The page to go to, "" for none."""
        return _onwards(request or self.request)


def _onwards(request: HttpRequest) -> str:
    back = way_back(request)
    return "" if urlsplit(back).path in (reverse("login"), reverse("logout")) else back
