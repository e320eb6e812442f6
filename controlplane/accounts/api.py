"""Who calls the API: a person's token, never a session, so that no page can make a browser call it."""

from django.http import HttpRequest
from ninja.security import HttpBearer

from controlplane.accounts import tokens
from controlplane.accounts.access import Actor


class ApiRequest(HttpRequest):
    """A request that passed `Token`."""

    auth: Actor


class Token(HttpBearer):
    """Authorization: Bearer cp_…"""

    def authenticate(self, request: HttpRequest, token: str) -> Actor | None:
        """The actor, None for a token that is unknown, expired or revoked."""
        return tokens.authenticate(token)
