"""What the navigation counts of incidents, asked only by pages that show it."""

from functools import cached_property

from django.http import HttpRequest

from controlplane.accounts.access import actor_of
from incidents.listing import unacknowledged


class Urgent:
    """For the person of this request; nothing is asked of the database before it is shown."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def unacknowledged(self) -> int:
        """Incidents that nobody has."""
        return unacknowledged(actor_of(self._request))


def urgent(request: HttpRequest) -> dict[str, object]:
    """`urgent` for templates, once somebody is signed in."""
    user = getattr(request, "user", None)
    return {"urgent": Urgent(request)} if user is not None and user.is_authenticated else {}
