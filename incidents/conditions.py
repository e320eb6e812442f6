"""What incidents say of an environment to whoever wants to change it; registered as "incidents" and "emergency"."""

from collections.abc import Mapping
from typing import Any

from django.db.models.functions import Now

from controlplane.operations.gates import Outcome
from environments.conditions import Said
from environments.models import Environment
from incidents.models import BreakGlass, Incident


def none_open(environment: Environment, wanted: Mapping[str, Any]) -> Said:
    """No incident of these severities is open here; it waits for their end."""
    severities = list(wanted["severities"])
    here = Incident.objects.filter(environments__contains=[environment.slug], severity__in=severities)
    worst = here.exclude(state=Incident.State.RESOLVED).order_by("severity", "pk").first()
    if worst is None:
        return Outcome.PASSED, f"no {' or '.join(severities)} is open in {environment.slug}"
    words = f"incident {worst.pk}, {worst.severity}, is open: {worst.title}. It waits until that is resolved"
    return Outcome.PENDING, f"{words}; or two people break the glass on its page."


def emergency(environment: Environment, wanted: Mapping[str, Any]) -> Said:
    """Whether two people have broken the glass for this environment, and who."""
    broken = BreakGlass.objects.filter(
        environment=environment, ended_at=None, confirmed_at__isnull=False, expires_at__gt=Now()
    ).first()
    if broken is None:
        return Outcome.FAILED, "nobody has broken the glass"
    who = f"{broken.asked_by_name} and {broken.confirmed_by_name}"
    return Outcome.PASSED, f"{who} broke the glass for incident {broken.incident_id}: {broken.reason}"
