"""What the navigation counts: what waits for this person, asked only by pages that show it."""

from functools import cached_property

from django.http import HttpRequest

from controlplane.accounts.access import actor_of
from controlplane.accounts.models import Role
from controlplane.operations.access import visible_operations
from controlplane.operations.inbox import waiting_for
from controlplane.operations.states import State


class Navigation:
    """Counts for the person of this request; nothing is asked of the database before it is shown."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def approvals(self) -> int:
        """Operations that wait for this person's word."""
        return waiting_for(actor_of(self._request)).count()

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


def navigation(request: HttpRequest) -> dict[str, object]:
    """`navigation` for templates, once somebody is signed in."""
    user = getattr(request, "user", None)
    return {"navigation": Navigation(request)} if user is not None and user.is_authenticated else {}
