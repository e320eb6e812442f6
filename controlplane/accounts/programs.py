"""Who vouches for programs: other issuers of tokens, each registered in `AppConfig.ready()`.

Apart from the API, so that workers, which answer nobody, need not load it.
"""

from collections.abc import Callable

from django.http import HttpRequest

from controlplane.accounts.access import Actor


class ApiRequest(HttpRequest):
    """A request that passed `Token` or `Program`."""

    auth: Actor


class NotBelieved(Exception):
    """Who calls could not show who they are: 401, in words that say what to do and nothing that is secret."""


class CannotTell(Exception):
    """Who calls cannot be told now, as whoever vouches for them does not answer: 503, in words."""


# Asked with the request and the token: the actor, or None for what is no token of theirs. Raises the two above.
Provider = Callable[[HttpRequest, str], Actor | None]

_providers: list[Provider] = []


def register(provider: Provider) -> None:
    """Ask this provider, too, where a route takes programs."""
    if provider not in _providers:
        _providers.append(provider)


def vouched_for(request: HttpRequest, token: str) -> Actor | None:
    """Whom one of them knows. Raises NotBelieved, CannotTell."""
    answers = (provider(request, token) for provider in _providers)
    return next((actor for actor in answers if actor is not None), None)
