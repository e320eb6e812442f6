"""What the navigation counts: what waits for this person, asked only by pages that show it."""

from functools import cached_property

from django.http import HttpRequest

from controlplane.accounts.access import actor_of
from controlplane.accounts.models import Role
from controlplane.operations.access import visible_operations
from controlplane.operations.inbox import waiting_count
from controlplane.operations.models import Halt
from controlplane.operations.states import State
from controlplane.operations.world import standing


class Navigation:
    """Counts for the person of this request; nothing is asked of the database before it is shown."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def approvals(self) -> int:
        """Operations that wait for this person's word."""
        return waiting_count(actor_of(self._request))

    @cached_property
    def needs_operator(self) -> int:
        """Operations in which a person must say what is true."""
        return visible_operations(actor_of(self._request)).filter(state=State.NEEDS_OPERATOR).count()

    @cached_property
    def role(self) -> str:
        """The strongest role this person has anywhere, in words; empty for none."""
        actor = actor_of(self._request)
        return next((role.label for role in reversed(Role) if actor.scopes(role) != []), "")

    @property
    def admin(self) -> bool:
        """May manage people."""
        return actor_of(self._request).is_admin


class World:
    """Whether everything is stopped; asked by whatever shows it, once a request."""

    @cached_property
    def now(self) -> Halt | None:
        """The halt that holds; None while the world turns."""
        return standing()


def navigation(request: HttpRequest) -> dict[str, object]:
    """`navigation` and `halt` for templates, once somebody is signed in."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {"navigation": Navigation(request), "halt": World()}
