"""Canary: a few instances get the release first, and their numbers decide whether the others do.

1. Where the load balancer knows weights, the canaries get their small share of the requests;
2. the driver brings the release to them, and to them alone;
3. their failures and their latency are compared with the others' until there is a verdict (`judge`);
4. a bad one puts the canaries back and the weights too: the others were never touched. A good one gives everybody the
   weight that was there before, and the driver brings the release to the rest.

Where weights are those of whole groups (AWS's target groups), the canaries get nothing while they are renewed, and
their share afterwards: a group that has nobody left and gets requests all the same answers them with errors. If the
others are one alone, the same holds for it.

Between 1 and the usual weights the operation is not stopped before a step, for that would leave the shares unequal
behind; while the canaries are watched it can be stopped at any time, and then they are put back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlplane.operations.errors import Invalid
from controlplane.operations.plans import Arguments, Plan, StepSpec
from deployments.strategies.judge import percent
from deployments.strategies.rolling import rolling_plan, summary_of
from deployments.strategies.settings import ABORT, PROCEED, CanarySettings
from deployments.strategies.situation import (
    Balanced,
    Situation,
    also_undo,
    can_be_narrowed,
    fits_groups,
    known,
    member_at,
    part,
    undo_of,
    without_safe_points,
)
from deployments.strategies.weights import FULL, share_of, shares, usual, weigh_step
from deployments.strategies.weights import GROUP as TRAFFIC
from environments.drivers.base import Driver, Rollout, Software

JUDGE, JUDGING_KEY = "strategy.judge", "judge"
GROUP = "verdict"
FIRST, REST = "canary", "rest"
USUAL = "weights"
# A judging step that has its verdict by the deadline still has to write it down.
MARGIN_SECONDS = 60.0


def canary_plan(driver: Driver, situation: Situation, to: Software, settings: CanarySettings) -> Plan:
    """Raises Invalid, in words, where there can be no canary. Where nothing could be compared it is rolling."""
    chosen, others = split(situation, settings)
    if not any(one.version for one in situation.at(others)):
        return _rolling(driver, situation, to, "rolling, for nothing else runs that a canary could be compared with")
    # Not those that run it already: what is compared with itself never looks bad.
    before = [one.instance for one in situation.at(others) if one.version and one.digest != to.digest]
    # Where there is a reference and no version, it has ended, and is away as long as nobody starts it.
    serving = [one.instance for one in situation.at(others) if one.version or one.reference]
    first = part(driver, situation, chosen, to, key=FIRST, beside=serving)
    rest = part(driver, situation, others, to, key=REST, beside=chosen)
    if not rest.steps or not before:
        return _rolling(driver, situation, to, "rolling, for all but the canary run it already")
    balanced = situation.balanced if situation.balanced and situation.balanced.weighs else None
    fits_groups(balanced, chosen, others, "The canary")
    nobody_aside(balanced)
    source = source_of(situation, settings)
    return _Canary(situation, settings, chosen, others, before, source, balanced).plan(to, first, rest)


def _rolling(driver: Driver, situation: Situation, to: Software, why: str) -> Plan:
    return replace(rolling_plan(driver, situation, to), summary=summary_of(situation, to, situation.running, why))


def split(situation: Situation, settings: CanarySettings) -> tuple[list[str], list[str]]:
    """The canaries, and the others. Raises Invalid when one of both would be empty, or the driver cannot."""
    if words := can_be_narrowed(situation.driver, "A canary"):
        raise Invalid(words)
    known(situation, settings.instances, "The canary")
    names = situation.names
    chosen = [name for name in names if name in settings.instances] or names[: settings.count]
    others = [name for name in names if name not in chosen]
    if not others:
        raise Invalid(
            f"A canary needs others to be compared with, and {situation.target.service} has "
            f"{len(names)} instance{'s' * (len(names) != 1)} in {situation.target.environment}. Choose rolling."
        )
    return chosen, others


def source_of(situation: Situation, settings: CanarySettings) -> str:
    """Where the numbers come from. Raises Invalid when there are none."""
    counts = situation.balanced is not None and situation.balanced.counts
    there = [*(["prometheus"] if situation.prometheus else []), *(["balancer"] if counts else [])]
    if settings.metrics in there:
        return settings.metrics
    if settings.metrics or not there:
        missing = {
            "prometheus": "PROMETHEUS_URL is not set",
            "balancer": "the driver settings name no load balancer that counts requests",
        }
        why = missing.get(settings.metrics) or " and ".join(missing.values())
        raise Invalid(f"Nothing could judge a canary here: {why}. Mend that, or choose rolling.")
    return there[0]


def nobody_aside(balanced: Balanced | None) -> None:
    """Raises Invalid where instances get no requests: a canary would be compared with them, or give them some."""
    if aside := [name for name, weight in (balanced.weights if balanced else {}).items() if weight == 0]:
        raise Invalid(
            f"A canary shares requests among all instances, and {', '.join(aside)} "
            f"{'has' if len(aside) == 1 else 'have'} the weight 0 in the load balancer. Give each some weight there, "
            "or choose another strategy."
        )


def weights_after(plan: Mapping[str, Any]) -> dict[str, int]:
    """By instance those with which a canary's plan ends, whatever they are meanwhile; empty where it moves none."""
    return next((step["arguments"]["weights"] for step in plan["steps"] if step["key"] == USUAL), {})


def without_verdict(settings: CanarySettings, situation: Situation) -> str:
    """What happens when the deadline comes first."""
    return settings.without_verdict or (ABORT if situation.careful else PROCEED)


def _keys(steps: tuple[StepSpec, ...]) -> tuple[str, ...]:
    return tuple(step.key for step in steps)


@dataclass(frozen=True)
class _Canary:
    """All that a plan is made of. before: of the others, those with another release. balanced: where the load balancer
    knows weights.
    """

    situation: Situation
    settings: CanarySettings
    chosen: list[str]
    others: list[str]
    before: list[str]
    source: str
    balanced: Balanced | None

    def plan(self, to: Software, first: Rollout, rest: Rollout) -> Plan:
        """Canaries, verdict, the rest. Whatever fails after the canaries puts them back too."""
        restored = (self._back_to_usual("put-back/weights"),) if self.balanced else ()
        emptied = (self._emptied("put-back/aside", self.chosen),) if self._by_group else ()
        emptied_too = (self._emptied("put-back/rest/aside", self.others),) if self._by_turns else ()
        undo = (*_keys(emptied), *undo_of(first), *_keys(restored))
        return Plan(
            summary=summary_of(
                self.situation, to, self.situation.running, f"canary {', '.join(self.chosen)} first"
            ),
            steps=(*self._beginning(first, undo, _keys(restored)), self._judging(undo), *self._ending(rest, undo)),
            recovery=(*first.recovery, *rest.recovery, *emptied_too, *emptied, *restored),
            changes=(*first.changes, *self._told(), *rest.changes),
        )  # fmt: skip

    def _beginning(self, first: Rollout, undo: tuple[str, ...], restored: tuple[str, ...]) -> tuple[StepSpec, ...]:
        """Their share, and the release; in the other order where a share without anybody would be lost."""
        if not self.balanced:
            return first.steps
        renewed = also_undo(without_safe_points(first.steps), restored)
        if not self._by_group:
            return self._small(restored, safe=True), *renewed
        return self._emptied(f"{FIRST}/aside", self.chosen, restored, safe=True), *renewed, self._small(undo)

    def _ending(self, rest: Rollout, undo: tuple[str, ...]) -> tuple[StepSpec, ...]:
        """The usual shares, and the release for the rest."""
        if not self.balanced:
            return also_undo(rest.steps, undo)
        if not self._by_turns:
            return self._back_to_usual(USUAL, undo), *also_undo(rest.steps, undo)
        return (
            self._emptied(f"{REST}/aside", self.others, undo),
            *also_undo(without_safe_points(rest.steps), undo),
            self._back_to_usual(USUAL, ("put-back/rest/aside", *undo_of(rest), *undo)),
        )

    @property
    def _by_group(self) -> bool:
        return self.balanced is not None and bool(self.balanced.groups)

    @property
    def _by_turns(self) -> bool:
        """Whether the others are a group that would have nobody left while it is renewed."""
        return self._by_group and len(self.others) == 1

    @property
    def _usual(self) -> dict[str, int]:
        if self.balanced is None:
            raise TypeError("no weights without a load balancer")
        return usual(self.balanced)

    @property
    def _is_equal(self) -> bool:
        return len(set(self._usual.values())) == 1

    @property
    def _weights(self) -> dict[str, int]:
        there = self._usual
        return shares(self.chosen, {name: there[name] for name in self.others}, self.settings.share_percent)

    @property
    def _share(self) -> str:
        return percent(share_of(self.chosen, self._weights))

    def _small(self, on_failure: tuple[str, ...], *, safe: bool = False) -> StepSpec:
        title = f"give {self._share} of the requests to {', '.join(self.chosen)}"
        return self._weigh(f"{FIRST}/weights", title, self._weights, on_failure, safe=safe)

    def _emptied(self, key: str, those: list[str], on_failure: tuple[str, ...] = (), *, safe: bool = False) -> StepSpec:
        weights = {name: 0 if name in those else FULL for name in self.situation.names}
        title = f"send nothing to {', '.join(those)} meanwhile"
        return self._weigh(key, title, weights, on_failure, safe=safe)

    def _back_to_usual(self, key: str, on_failure: tuple[str, ...] = ()) -> StepSpec:
        title = "share requests equally again" if self._is_equal else "share requests by the weights of before again"
        return self._weigh(key, title, self._usual, on_failure)

    def _weigh(
        self, key: str, title: str, weights: dict[str, int], on_failure: tuple[str, ...], *, safe: bool = False
    ) -> StepSpec:
        if self.balanced is None:
            raise TypeError("no weights without a load balancer")
        return weigh_step(key, title, self.balanced, weights, on_failure, safe=safe)

    def _judging(self, undo: tuple[str, ...]) -> StepSpec:
        settings, balanced = self.settings, self.situation.balanced
        arguments = {
            "environment": self.situation.target.environment,
            "source": self.source,
            "balancer": dict(balanced.named) if balanced else {},
            "canaries": self._members(self.chosen),
            "others": self._members(self.before),
            "points": settings.points,
            "slower_percent": settings.slower_percent,
            "requests": settings.requests,
            "deadline": settings.deadline_seconds,
            "interval": settings.interval_seconds,
            "without_verdict": without_verdict(settings, self.situation),
        }
        return StepSpec(
            JUDGING_KEY, f"compare {', '.join(self.chosen)} with the others", JUDGE, arguments, GROUP,
            settings.deadline_seconds + MARGIN_SECONDS, on_failure=undo, interruptible=True,
        )  # fmt: skip

    def _members(self, names: list[str]) -> list[Arguments]:
        balanced = self.situation.balanced
        if balanced:
            return [dict(balanced.members[name]) for name in names]
        return [member_at(one) for one in self.situation.target.instances if one.name in names]

    def _told(self) -> tuple[dict[str, str], ...]:
        """What the approver reads about the judging."""
        settings = self.settings
        slower = f", or answers come more than {settings.slower_percent:g} % later" if settings.slower_percent else ""
        asked = "the Prometheus server" if self.source == "prometheus" else "the load balancer's counters"
        otherwise = "goes back" if without_verdict(settings, self.situation) == ABORT else "goes on"
        judged = (
            f"by {asked}, until {settings.requests} requests a side: back if {settings.points:g} points more "
            f"fail{slower}; without a verdict after {settings.deadline_seconds:g} s it {otherwise}"
        )
        return (*self._told_of_weights(), {"what": "judged", "from": "", "to": judged})

    def _told_of_weights(self) -> tuple[dict[str, str], ...]:
        if self.balanced is None:
            return ()
        there = ", ".join(f"{name} {weight}" for name, weight in self._usual.items())
        before, after = ("equal", "equal") if self._is_equal else (there, "as before")
        return ({"what": TRAFFIC, "from": before, "to": f"{self._share} to {', '.join(self.chosen)}, then {after}"},)
