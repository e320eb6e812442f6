"""What the configuration says of strategies, read strictly: one place knows the keys, their defaults and bounds."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from controlplane.operations.errors import Invalid

ROLLING, CANARY, BLUE_GREEN = "rolling", "canary", "blue_green"
NAMES = (ROLLING, CANARY, BLUE_GREEN)
LABELS = {ROLLING: "rolling", CANARY: "canary", BLUE_GREEN: "blue/green"}
# What a canary without a verdict does. "": put back where approvals are needed, go on elsewhere.
ABORT, PROCEED = "abort", "proceed"


@dataclass(frozen=True)
class CanarySettings:
    """instances: those that get the release first; none: the first `count`. share_percent: of requests, for all of
    them together. points, slower_percent, requests: see `judge.Limits`. deadline_seconds: for a verdict.

    metrics: "prometheus", "balancer", or "" for the first of them that there is.
    """

    instances: tuple[str, ...] = ()
    count: int = 1
    share_percent: int = 10
    points: float = 2.0
    slower_percent: float = 50.0
    requests: int = 4000
    deadline_seconds: float = 1800.0
    interval_seconds: float = 5.0
    metrics: str = ""
    without_verdict: str = ""


@dataclass(frozen=True)
class BlueGreenSettings:
    """blue, green: the instances of each colour. soak_seconds: how long the new colour is watched after the switch.
    errors_percent: of its requests may fail meanwhile; judged from `least_requests` on."""

    blue: tuple[str, ...] = ()
    green: tuple[str, ...] = ()
    soak_seconds: float = 300.0
    interval_seconds: float = 5.0
    errors_percent: float = 5.0
    least_requests: int = 50


@dataclass(frozen=True)
class Settings:
    """strategy: what is done unless somebody chooses. also: what else people may choose for one deployment."""

    strategy: str = ROLLING
    also: tuple[str, ...] = ()
    canary: CanarySettings = field(default_factory=CanarySettings)
    blue_green: BlueGreenSettings = field(default_factory=BlueGreenSettings)

    @property
    def choices(self) -> tuple[str, ...]:
        """What people may choose, the usual one first."""
        return tuple(dict.fromkeys((self.strategy, *self.also)))

    def choose(self, wanted: str, *, rollback: bool) -> str:
        """The strategy to plan with. wanted: "" for the usual one. Raises Invalid for one that is not allowed.

        A way back that waits for a verdict would be none: without a wish, a rollback is never a canary.
        """
        if not wanted:
            return ROLLING if rollback and self.strategy == CANARY else self.strategy
        allowed = self.offered(rollback=rollback)
        if wanted not in allowed:
            words = " or ".join(LABELS[name] for name in allowed)
            raise Invalid(f"“{LABELS.get(wanted, wanted)}” may not be chosen here: write {words}, or nothing.")
        return wanted

    def offered(self, *, rollback: bool) -> tuple[str, ...]:
        """What may be chosen for a deployment, or for the way back, which may always be rolling."""
        return (
            tuple(dict.fromkeys((self.choose("", rollback=True), *self.choices, ROLLING))) if rollback else self.choices
        )


def settings_from(kept: Mapping[str, Any]) -> Settings:
    """What `problems` found nothing wrong with, as it stands in the database."""
    return Settings(
        strategy=kept.get("strategy", ROLLING),
        also=tuple(kept.get("also", ())),
        canary=CanarySettings(**_tuples(kept.get(CANARY, {}))),
        blue_green=BlueGreenSettings(**_tuples(kept.get(BLUE_GREEN, {}))),
    )


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


Check = tuple[Callable[[Any], bool], str]


def _between(least: float, most: float, what: str = "a number") -> Check:
    def good(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return good, f"has to be {what} from {least:g} to {most:g}"


def _whole(least: int, most: int) -> Check:
    def good(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return good, f"has to be a whole number from {least} to {most}"


def _one_of(*words: str) -> Check:
    shown = " or ".join(f'"{word}"' for word in words)
    return lambda value: isinstance(value, str) and value in words, f"has to be {shown}"


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


NAMES_OF_INSTANCES: Check = (_names, 'has to be a list of names of instances, as in ["production-1"]')
CHECKS: dict[str, dict[str, Check]] = {
    CANARY: {
        "instances": NAMES_OF_INSTANCES,
        "count": _whole(1, 1000),
        "share_percent": _whole(1, 50),
        "points": _between(0.1, 50, "a number of percentage points"),
        "slower_percent": _between(0, 1000, "a percentage (0: latency is not judged)"),
        "requests": _whole(50, 10_000_000),
        "deadline_seconds": _between(1, 86_400, "a number of seconds"),
        "interval_seconds": _between(0.1, 300, "a number of seconds"),
        "metrics": _one_of("prometheus", "balancer"),
        "without_verdict": _one_of(ABORT, PROCEED),
    },
    BLUE_GREEN: {
        "blue": NAMES_OF_INSTANCES,
        "green": NAMES_OF_INSTANCES,
        "soak_seconds": _between(0, 86_400, "a number of seconds"),
        "interval_seconds": _between(0.1, 300, "a number of seconds"),
        "errors_percent": _between(0, 100, "a percentage"),
        "least_requests": _whole(1, 1_000_000),
    },
}
DEFAULTS: dict[str, dict[str, Any]] = {CANARY: asdict(CanarySettings()), BLUE_GREEN: asdict(BlueGreenSettings())}
assert all({one.name for one in fields(kind)} == CHECKS[key].keys() for key, kind in
           ((CANARY, CanarySettings), (BLUE_GREEN, BlueGreenSettings)))  # fmt: skip


def problems_with(strategy: str, given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the table of a strategy, in words, by key; empty for nothing."""
    checks = CHECKS[strategy]
    wrong = {key: f"is no setting of it; there are {', '.join(checks)}" for key in given.keys() - checks.keys()}
    return wrong | {key: words for key, (good, words) in checks.items() if key in given and not good(given[key])}
