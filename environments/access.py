"""Which environments a person sees, and the one they named: the object, or 404, or 403."""

from django.db.models import QuerySet
from django.http import Http404

from controlplane.accounts.access import Actor, require
from controlplane.accounts.models import Role
from environments.models import Environment


def visible_environments(actor: Actor) -> QuerySet[Environment]:
    """Those the person may look at."""
    scopes = actor.scopes(Role.VIEWER)
    return Environment.objects.all() if scopes is None else Environment.objects.filter(slug__in=scopes)


def load_environment(
    actor: Actor, slug: str, role: Role = Role.VIEWER, what: str = "open the environment"
) -> Environment:
    """The environment, if the person has the role there; Http404 or PermissionDenied otherwise.

    A name that nobody declared is no environment, so the audit trail does not learn it as one.
    """
    environment = Environment.objects.filter(slug=slug).first()
    if environment is None:
        raise Http404("There is no such environment.")
    require(actor, role, [slug], what)
    return environment


def all_scopes() -> list[str]:
    """What there is to give roles in: the slugs of all environments."""
    return list(Environment.objects.values_list("slug", flat=True))
