"""Who calls the API: a person's token, never a session, so that no page can make a browser call it.

Routes that say so (`auth=Program()`) take in addition what other issuers vouch for: whoever can tell such tokens apart
registers in `AppConfig.ready()`. Every other route refuses them, whatever they are good for elsewhere.
"""

from django.http import HttpRequest
from ninja.security import HttpBearer

from controlplane.accounts import tokens
from controlplane.accounts.access import Actor
from controlplane.accounts.programs import ApiRequest, vouched_for

__all__ = ["ApiRequest", "Program", "Token"]


class Token(HttpBearer):
    """Authorization: Bearer cp_…"""

    def authenticate(self, request: HttpRequest, token: str) -> Actor | None:
        """The actor, None for a token that is unknown, expired or revoked."""
        return tokens.authenticate(token)


class Program(HttpBearer):
    """The same, or a token of another issuer."""

    def authenticate(self, request: HttpRequest, token: str) -> Actor | None:
        """The actor, None for a token that nobody knows. Raises NotBelieved, CannotTell."""
        if token.startswith(tokens.BEGINNING):
            return tokens.authenticate(token)
        return vouched_for(request, token)
