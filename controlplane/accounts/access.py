"""Who is acting, what they may do, and how they are refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponseBase

from controlplane.accounts.models import EVERYWHERE, PIPELINES, Person, Role, roles_of, scopes_with
from controlplane.audit.record import Who, record_denied

View = TypeVar("View", bound=Callable[..., HttpResponseBase])

NAMES_AT_MOST = 5


@dataclass(frozen=True)
class Actor:
    """A person, acting in a certain way. cap: the strongest role that this way allows (a token's)."""

    person: Person
    cap: Role | None = None
    via: str = "web"

    @property
    def who(self) -> Who:
        """As the audit trail knows them."""
        return Who(self.person.title_name, self.person.pk, self.via)

    @cached_property
    def _roles(self) -> dict[str, Role]:
        roles = roles_of(self.person)
        if self.cap is None:
            return roles
        cap = self.cap
        return {scope: cap if role.includes(cap) else role for scope, role in roles.items()}

    def role_in(self, scope: str) -> Role | None:
        """The strongest role in the scope, given there or everywhere; None for no access at all."""
        held = [self._roles[key] for key in (scope, EVERYWHERE) if key in self._roles]
        return max(held, key=lambda role: role.rank, default=None)

    def may(self, role: Role, scopes: Sequence[str]) -> bool:
        """Has the role in all of the scopes. No scope at all means the whole installation."""
        return all((held := self.role_in(scope)) and held.includes(role) for scope in scopes or [EVERYWHERE])

    def scopes(self, role: Role = Role.VIEWER) -> list[str] | None:
        """Where they have the role; None for everywhere."""
        return scopes_with(role, self._roles)

    @property
    def is_admin(self) -> bool:
        """May manage people and everything else."""
        return self.may(Role.ADMIN, [EVERYWHERE])


@dataclass(frozen=True)
class Machine:
    """A process of ours that asks by itself: the clock, for what is due."""

    who: Who
    person: None = None


def signed_in(view: View) -> View:
    """For every page: send strangers to the sign-in, and from there back to the page."""
    return login_required(view)


def actor_of(request: HttpRequest) -> Actor:
    """Who is signed in. Raises PermissionDenied for nobody."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None or actor.person != request.user:
        if not isinstance(request.user, Person):
            raise PermissionDenied("Sign in first.")
        actor = Actor(request.user)
        request.actor = actor  # type: ignore[attr-defined]
    return actor


def holders(role: Role, scopes: Sequence[str]) -> list[Person]:
    """The active people who have the role in all of the scopes, by name; a pipeline is nobody one could turn to."""
    enough = [other for other in Role if other.includes(role)]
    people = Person.objects.filter(is_active=True).exclude(username__startswith=PIPELINES)
    for scope in scopes or [EVERYWHERE]:
        people = people.filter(Q(grants__scope=scope) | Q(grants__scope=EVERYWHERE), grants__role__in=enough)
    return list(people.distinct().order_by("first_name", "username"))


def require(actor: Actor, role: Role, scopes: Sequence[str], what: str) -> None:
    """Return if the actor has the role in all of the scopes.

    Otherwise raise Http404 if they see none of the scopes (so that numbers cannot be tried out), else
    PermissionDenied in words that say who can. Both go to the audit trail; so call it outside of a transaction.
    """
    if actor.may(role, scopes):
        return
    visible = not scopes or any(actor.role_in(scope) for scope in scopes)
    words = _refusal(actor, role, scopes) if visible else "They see none of its environments."
    record_denied(actor.who, "access.denied", what, scopes=scopes, reason=words)
    if not visible:
        raise Http404
    raise PermissionDenied(words)


def _refusal(actor: Actor, role: Role, scopes: Sequence[str]) -> str:
    where = f" in {' and '.join(scopes)}" if scopes else ""
    if actor.cap and not actor.cap.includes(role):
        return f"This needs the role {role.label}{where}, and the token allows only {actor.cap.label}."
    names = [person.title_name for person in holders(role, scopes) if person != actor.person][:NAMES_AT_MOST]
    who = f" {' or '.join(names)} can do it." if names else ""
    return f"This needs the role {role.label}{where}.{who} An administrator gives roles."
