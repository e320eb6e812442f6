"""What the target groups of an Application Load Balancer answered, as CloudWatch counts it: by group and minute.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html. The sums are
those since the beginning of the month, so that whoever asks twice has the difference; they begin anew with each month.
A minute's numbers come one to three minutes late, and not all of them at once.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone

from environments.aws import READ_ATTEMPTS, in_words, other
from environments.balancers import amazon
from environments.balancers.base import Counted

NAMESPACE = "AWS/ApplicationELB"
BALANCER = re.compile(r":listener(?:-rule)?/(app/[^/]+/[^/]+)/")
# By what we call it: the metric, and which of its statistics.
METRICS = {
    "requests": ("RequestCount", "Sum"),
    "failed": ("HTTPCode_Target_5XX_Count", "Sum"),
    "unanswered": ("TargetConnectionErrorCount", "Sum"),
    "seconds": ("TargetResponseTime", "Sum"),
    "timed": ("TargetResponseTime", "SampleCount"),
}
HOUR_SECONDS = 3600
# Of our clock against AWS's.
AHEAD = timedelta(hours=1)


def balancer_of(listener: str) -> str:
    """The load balancer of a listener or of a rule, as CloudWatch names it; "" for one that counts no requests."""
    found = BALANCER.search(listener)
    return found[1] if found else ""


def counted_by_group(settings: Mapping[str, Any], groups: Sequence[str]) -> dict[str, Counted]:
    """By the group's ARN, in one question; empty for a Network Load Balancer. Raises StepError."""
    balancer = balancer_of(settings["listener"])
    if not balancer:
        return {}
    wanted: list[dict[str, Any]] = [
        {"Id": f"g{number}_{name}", "MetricStat": _statistic(balancer, group, metric, statistic)}
        for number, group in enumerate(groups)
        for name, (metric, statistic) in METRICS.items()
    ]
    now = timezone.now()
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    client = other("cloudwatch", amazon.account_of(settings), READ_ATTEMPTS)
    sums: dict[str, float] = dict.fromkeys((one["Id"] for one in wanted), 0.0)
    with in_words("cloudwatch:GetMetricData", balancer):
        pages = client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=wanted, StartTime=month, EndTime=now + AHEAD
        )
        for page in pages:
            for row in page["MetricDataResults"]:
                sums[row["Id"]] += sum(row["Values"])
    return {
        group: _counted({name: sums[f"g{number}_{name}"] for name in METRICS}) for number, group in enumerate(groups)
    }


def _statistic(balancer: str, group: str, metric: str, statistic: str) -> dict[str, Any]:
    dimensions = [
        {"Name": "TargetGroup", "Value": group.rpartition(":")[2]},
        {"Name": "LoadBalancer", "Value": balancer},
    ]
    named = {"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": dimensions}
    return {"Metric": named, "Period": HOUR_SECONDS, "Stat": statistic}


def _counted(sums: Mapping[str, float]) -> Counted:
    errors = round(sums["failed"] + sums["unanswered"])
    return Counted(round(sums["requests"]), errors, seconds=sums["seconds"], timed=round(sums["timed"]))
