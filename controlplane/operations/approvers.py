"""Who could approve, so that whoever asks knows whom to wait for."""

from collections.abc import Sequence

from controlplane.accounts.models import Grant, Person, Role
from controlplane.operations.access import roles_from

SHOWN = 6


def people_who_can(role: Role, scopes: Sequence[str], *, besides: int) -> list[str]:
    """Names of active people who hold the role, or one that includes it, in all the scopes; some of them."""
    people = Person.objects.filter(is_active=True).exclude(pk=besides)
    for scope in scopes:
        people = people.filter(
            pk__in=Grant.objects.filter(scope__in=[scope, "*"], role__in=roles_from(role)).values("person")
        )
    return [person.title_name for person in people.order_by("username")[:SHOWN]]
