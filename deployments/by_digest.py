"""Which release it is that runs, or ran, where its digest and its version were written down."""

from collections.abc import Iterable

from django.db.models import Case, QuerySet, When

from deployments.models import Release


def releases_with(service_id: int, digests: Iterable[str], versions: Iterable[str]) -> QuerySet[Release]:
    """The releases of a service with one of these digests: those of the versions first, then the newest.

    Versions of one build share a digest, and whoever adds one must not decide which of them another place goes back to.
    Either may be a query of one column.
    """
    named = Case(When(version__in=versions, then=0), default=1)
    return Release.objects.filter(service=service_id, digest__in=digests).order_by(named, "-pk")
