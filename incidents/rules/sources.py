"""Where metrics come from: a Prometheus server where there is one (PROMETHEUS_URL), else our own probes."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from django.conf import settings

from incidents.rules import own_probes, prometheus
from incidents.rules.evaluation import Reading


def read(wanted: Collection[str], environments: Sequence[str]) -> dict[str, dict[str, Reading]]:
    """By environment, then by metric. Call it outside of a transaction: it may ask over the network."""
    if settings.PROMETHEUS_URL:
        found = prometheus.read(settings.PROMETHEUS_URL, wanted, environments, settings.PROMETHEUS_TOKEN)
    else:
        found = own_probes.read(wanted, environments)
    by_environment: dict[str, dict[str, Reading]] = defaultdict(dict)
    for (slug, name), reading in found.items():
        by_environment[slug][name] = reading
    return dict(by_environment)


def source_name() -> str:
    """In words, for pages."""
    return "the Prometheus server" if settings.PROMETHEUS_URL else "our own probes"
