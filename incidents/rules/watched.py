"""Which environments a rule watches: those it names, or else all those where something was ever deployed."""

from environments.models import Environment
from incidents.models import AlertRule


def watched_by(rule: AlertRule) -> list[str]:
    """Their slugs, in the order of the board. `duty.WATCHED` says the same for all rules at once."""
    environments = Environment.objects.all()
    if rule.environments:
        environments = environments.filter(slug__in=rule.environments)
    else:
        environments = environments.filter(placements__version__gt="").distinct()
    return list(environments.values_list("slug", flat=True))
