"""Steps that share requests out by weights, and the arithmetic of shares: pure."""

from collections.abc import Collection, Mapping

from controlplane.operations.plans import Retry, StepSpec
from deployments.strategies.situation import Balanced

FULL = 100
WEIGH = "strategy.weigh"
AGAIN = Retry(attempts=3, wait=1.0)
GROUP = "traffic"


def usual(balanced: Balanced) -> dict[str, int]:
    """The weights to come back to: those that are there. Where all are alike, or one is not known, 100 for each."""
    there = {name: weight for name in balanced.members if (weight := balanced.weights.get(name)) is not None}
    if len(there) < len(balanced.members) or len(set(there.values())) == 1:
        return dict.fromkeys(balanced.members, FULL)
    return there


def shares(few: Collection[str], others: Mapping[str, int], percent: int) -> dict[str, int]:
    """Weights that give so many percent of the requests to `few` together, as near as whole numbers come.

    others: their usual weights, which they keep beside each other. The heaviest weighs 100. Nobody gets less than 1: a
    canary without requests would never be judged.
    """
    ours = percent * sum(others.values()) / ((100 - percent) * len(few))
    scale = FULL / max(ours, *others.values())
    weights = dict.fromkeys(few, ours) | dict(others)
    return {name: max(1, round(weight * scale)) for name, weight in weights.items()}


def share_of(few: Collection[str], weights: Mapping[str, int]) -> float:
    """The share of the requests that these get, from 0 to 1."""
    return sum(weights[name] for name in few) / sum(weights.values())


def weigh_step(
    key: str, title: str, balanced: Balanced, weights: Mapping[str, int], on_failure: tuple[str, ...] = (),
    *, safe: bool = False,
) -> StepSpec:  # fmt: skip
    """The step that sets these weights."""
    arguments = {
        "balancer": dict(balanced.named),
        "members": [dict(balanced.members[name]) for name in weights],
        "weights": dict(weights),
    }
    return StepSpec(key, title, WEIGH, arguments, GROUP, 60.0, AGAIN, on_failure=on_failure, safe_point=safe)
