"""Which scopes (environments) there are to give roles in. Whoever has some registers a provider in `ready()`."""

from collections.abc import Callable

Provider = Callable[[], list[str]]

_providers: list[Provider] = []


def register(provider: Provider) -> None:
    """Ask this provider, too, whenever the scopes are listed."""
    if provider not in _providers:
        _providers.append(provider)


def known_scopes() -> list[str]:
    """The slugs of all scopes, sorted."""
    return sorted({scope for provider in _providers for scope in provider()})
