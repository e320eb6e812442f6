"""Who may do what where. Views load through here: the object, or 404, or 403 with words that say who can."""

from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse

from controlplane.accounts.models import EVERYWHERE, Person, Role
from controlplane.audit.record import Who, record_denied


class Actor:
    """A person as they act now. cap: the most their token may do; via: how they came in."""

    def __init__(self, person: Person, cap: Role | None = None, via: str = "web") -> None:
        self.person = person
        self.cap = cap
        self.via = via

    @property
    def who(self) -> Who:
        """For the audit trail."""
        return Who(self.person.title_name, self.person.pk, self.via)

    @cached_property
    def _roles(self) -> dict[str, Role]:
        if not self.person.is_active:
            return {}
        roles = {scope: Role(role) for scope, role in self.person.grants.values_list("scope", "role")}
        if self.cap is not None:
            roles = {scope: min(role, self.cap, key=lambda one: one.rank) for scope, role in roles.items()}
        return roles

    def role_in(self, scope: str) -> Role | None:
        """The strongest role there, of what is granted for the scope and for everywhere; None for none."""
        found = [self._roles[key] for key in (scope, EVERYWHERE) if key in self._roles]
        return max(found, key=lambda role: role.rank, default=None)

    def may(self, role: Role, scopes: Sequence[str]) -> bool:
        """Whether the role, or a stronger one, is held in all of these scopes."""
        return all((held := self.role_in(scope)) is not None and held.rank >= role.rank for scope in scopes)

    def scopes(self, role: Role = Role.VIEWER) -> list[str] | None:
        """Where the role is held; None means everywhere."""
        held = [scope for scope, own in self._roles.items() if own.rank >= role.rank]
        return None if EVERYWHERE in held else sorted(held)

    @property
    def is_admin(self) -> bool:
        """Administers the whole installation."""
        return self.may(Role.ADMIN, [EVERYWHERE])


def actor_of(request: HttpRequest) -> Actor:
    """The signed-in person of a page; asked for once a request."""
    actor = getattr(request, "actor", None)
    if actor is None:
        assert isinstance(request.user, Person)
        actor = Actor(request.user)
        request.actor = actor  # type: ignore[attr-defined]
    return actor


def require(actor: Actor, role: Role, scopes: Sequence[str], what: str) -> None:
    """Raise unless the role is held in all scopes.

    Http404 when a scope is invisible to the person, so that nothing can be guessed; PermissionDenied, in words
    that say who can, when it is visible. Both are kept in the audit trail.
    """
    if actor.may(role, scopes):
        return
    visible = actor.may(Role.VIEWER, scopes)
    words = f"Only people with the role {role.label} for {', '.join(scopes)} can do this."
    record_denied(actor.who, what, ", ".join(scopes), scopes=scopes, reason=words if visible else "not visible")
    if not visible:
        raise Http404("There is no such thing, or it is not yours to see.")
    raise PermissionDenied(words)


def signed_in(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Every page: whoever is not signed in is asked to, and comes back here."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs)

    return login_required(inner)
