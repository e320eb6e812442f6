"""What the numbers of deployments need of incidents: when something serious was going on where."""

from datetime import datetime

from django.db.models import Q

from deployments.insight.trouble import Trouble
from incidents.models import Incident, Severity

SERIOUS = (Severity.P1, Severity.P2)
AT_MOST = 500


def troubles_in(environment: str, since: datetime) -> list[Trouble]:
    """Serious incidents of an environment, or of the whole installation, opened since then; the newest count."""
    here = Q(environments__contains=[environment]) | Q(environments=[])
    rows = Incident.objects.filter(here, severity__in=SERIOUS, opened_at__gte=since).order_by("-opened_at")
    return [Trouble(began, ended) for began, ended in rows.values_list("opened_at", "resolved_at")[:AT_MOST]]
