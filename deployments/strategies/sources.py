"""What instances have answered so far, from the load balancer's counters or from a Prometheus server.

Both only ever count up, until they begin anew: what came in between is the difference, or, after a restart, what there
is since then. The series are the guide's ("Monitoring & Logging"): http_requests_total with the label status, and
http_request_duration_seconds; each with the labels environment and instance (host:port, or the instance's name).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings

from controlplane.operations.errors import StepError
from controlplane.operations.plans import Arguments
from deployments.strategies.asking import balancer_named, members_of
from deployments.strategies.judge import Interval, Side
from environments.addresses import NoAnswer
from environments.balancers.base import Member
from environments.prometheus import Unusable, ask, credentials

# A mean over "lately" forgets: of so many requests, after which it is mostly new.
MEMORY = 512.0
REQUESTS = "http_requests_total"
DURATION = "http_request_duration_seconds"
NAME = "counter"  # the label by which answers to one question are told apart


@dataclass(frozen=True)
class Counter:
    """One instance since somebody began to count. recent_ms: a mean over lately; else seconds: the sum over `timed`.

    at_once: all of it was read in one moment. A load balancer may tell of a failure before it tells of the request.
    """

    requests: float
    errors: float
    recent_ms: float | None = None
    seconds: float = 0.0
    timed: float = 0.0
    at_once: bool = False


Counters = Mapping[str, Counter]
Read = Callable[[], Counters]


def reader(source: str, balancer: Arguments, rows: Sequence[Arguments], environment: str) -> Read:
    """Asks for the counters of these instances; each call raises StepError when they cannot be had."""
    members = members_of(rows)
    if source == "prometheus":
        return lambda: _from_prometheus(members, environment)
    kind, given = balancer_named(balancer)

    def counted() -> Counters:
        found = kind.counted(given, members)
        return {
            name: Counter(one.requests, one.errors, one.mean_ms, one.seconds, one.timed) for name, one in found.items()
        }

    return counted


def _from_prometheus(members: Sequence[Member], environment: str) -> Counters:
    base, where = settings.PROMETHEUS_URL, f'environment="{environment}"'
    if not base:
        raise StepError("PROMETHEUS_URL is not set any more, so nothing can judge the canary.", permanent=True)
    questions = {
        "requests": f"sum by (instance) ({REQUESTS}{{{where}}})",
        "errors": f'sum by (instance) ({REQUESTS}{{{where},status=~"5.."}})',
        "seconds": f"sum by (instance) ({DURATION}_sum{{{where}}})",
        "timed": f"sum by (instance) ({DURATION}_count{{{where}}})",
    }
    # All in one question, or a scrape might come between two answers, which then would not belong together.
    question = " or ".join(f'label_replace({one}, "{NAME}", "{name}", "", "")' for name, one in questions.items())
    try:
        rows = ask(base, question, credentials(settings.PROMETHEUS_TOKEN))
    except (NoAnswer, Unusable) as error:
        raise StepError(f"Prometheus: {error}") from error
    answers: dict[str, dict[str, float]] = {name: {} for name in questions}
    for one in rows:
        if one.labels.get(NAME) in answers and math.isfinite(one.value):
            answers[one.labels[NAME]][one.labels.get("instance", "")] = one.value
    found = {}
    for member in members:
        label = next((one for one in (f"{member.host}:{member.port}", member.name) if one in answers["requests"]), None)
        if label:
            values = {name: values.get(label, 0.0) for name, values in answers.items()}
            found[member.name] = Counter(**values, at_once=bool(values["timed"]))
    if not found:
        words = (
            f"Prometheus has no {REQUESTS} of these instances: their series need the labels environment and instance."
        )
        raise StepError(words)
    return found


# --- from counters to intervals -----------------------------------------------------------------------


def since(before: Counters, now: Counters, canaries: Sequence[str], others: Sequence[str]) -> Interval:
    """What came in between, on both sides."""
    ours, theirs = _side(before, now, canaries), _side(before, now, others)
    if any(one.recent_ms is not None for one in now.values()):
        each = min(ours.requests / len(canaries), theirs.requests / len(others))
        return Interval(ours, theirs, 1.0 - math.exp(-each / MEMORY))
    return Interval(ours, theirs)


def _side(before: Counters, now: Counters, names: Sequence[str]) -> Side:
    """An instance that nobody counted before begins now."""
    steps = [_step(before[name], now[name]) for name in names if name in before and name in now]
    timed = [(count, mean) for count, mean in map(_latency, steps) if mean is not None and count > 0]
    total = sum(count for count, _ in timed)
    requests = round(sum(one.requests for one in steps))
    errors = round(sum(one.errors for one in steps))
    mean = sum(count * ms for count, ms in timed) / total if total else None
    return Side(max(requests, errors), errors, mean)  # a failure may be counted a moment before its request is


def _step(before: Counter, now: Counter) -> Counter:
    if _began_anew(before, now):
        return now
    return Counter(
        now.requests - before.requests,
        max(0.0, now.errors - before.errors),
        now.recent_ms,
        max(0.0, now.seconds - before.seconds),
        now.timed - before.timed,
    )


def _began_anew(before: Counter, now: Counter) -> bool:
    """Whether anything counts less than it did: all of it has been restarted then, though the rest has caught up."""
    falls = any(getattr(now, name) < getattr(before, name) for name in ("requests", "errors", "seconds", "timed"))
    if falls or not now.at_once:
        return falls
    return now.requests - now.errors < before.requests - before.errors


def _latency(step: Counter) -> tuple[float, float | None]:
    if step.recent_ms is not None:
        return step.requests, step.recent_ms
    return step.timed, 1000 * step.seconds / step.timed if step.timed else None


def kept(counters: Counters) -> dict[str, Any]:
    """As JSON keeps them."""
    return {name: asdict(one) for name, one in counters.items()}


def from_kept(values: Mapping[str, Any]) -> Counters:
    """The other way round."""
    return {name: Counter(**one) for name, one in values.items()}
