"""The metrics that conditions may name: what each means, and how a Prometheus server is asked for it.

The names of the series are the guide's ("Monitoring & Logging": http_requests_total, http_request_duration_seconds,
with the label status) and those of postgres_exporter; each series carries the label environment.
"""

from dataclasses import dataclass
from string import Template

from incidents.rules.units import Dimension

# Rates and percentiles look back for so long, here and in Prometheus.
WINDOW_SECONDS = 300
WINDOW = "5m"


@dataclass(frozen=True)
class Metric:
    """One metric. words: as in "error_rate is …". promql: $where stands for more matchers, $window for the window."""

    name: str
    dimension: Dimension
    words: str
    promql: str
    probed: bool = True  # False: only a Prometheus server knows it

    def query(self, where: str = "") -> str:
        """The expression: one value for each environment. where: matchers of labels, such as environment="dr"."""
        text = Template(self.promql).substitute(where=where, window=WINDOW, **{"and": f",{where}" if where else ""})
        return text.replace("{}", "")


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "error_rate", Dimension.SHARE, "the share of requests that failed",
            # A service that never failed has no series of failures: that is 0, and not unknown.
            '(sum by (environment) (rate(http_requests_total{status=~"5.."$and}[$window]))'
            " or 0 * sum by (environment) (rate(http_requests_total{$where}[$window])))"
            " / sum by (environment) (rate(http_requests_total{$where}[$window]))",
        ),
        Metric(
            "p95_response_time", Dimension.TIME, "the time within which 95 of 100 requests are answered",
            "1000 * histogram_quantile(0.95,"
            " sum by (environment, le) (rate(http_request_duration_seconds_bucket{$where}[$window])))",
        ),
        Metric("instances", Dimension.COUNT, "the number of instances", "count by (environment) (up{$where})"),
        Metric(
            "instances_healthy", Dimension.COUNT, "the number of healthy instances", "sum by (environment) (up{$where})"
        ),
        Metric(
            "db_connections", Dimension.COUNT, "the number of connections to the database",
            "sum by (environment) (pg_stat_activity_count{$where})",
        ),
        Metric(
            "db_connections_max", Dimension.COUNT, "the number of connections that the database allows",
            "max by (environment) (pg_settings_max_connections{$where})",
        ),
        Metric(
            "memory_used", Dimension.SIZE, "the memory of the instance that uses most",
            "max by (environment) (process_resident_memory_bytes{$where})", probed=False,
        ),
    )
}  # fmt: skip
