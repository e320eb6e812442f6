"""Load balancers: one file a kind, all of them in one dict."""

from typing import Any

from environments.balancers.base import Balancer
from environments.balancers.classic_elb import ClassicBalancer
from environments.balancers.haproxy import HaproxyBalancer
from environments.balancers.none import NoBalancer
from environments.balancers.target_group import TargetGroupBalancer

ALL: tuple[Balancer, ...] = (NoBalancer(), HaproxyBalancer(), TargetGroupBalancer(), ClassicBalancer())
BALANCERS: dict[str, Balancer] = {balancer.kind: balancer for balancer in ALL}


def problem_with(given: Any) -> str:
    """What is wrong with a load balancer in driver settings, its kind and its settings, in words; "" for nothing."""
    kind = given.get("kind") if isinstance(given, dict) else None
    if not isinstance(kind, str) or kind not in BALANCERS:
        return f"has to be a table whose kind is one of {', '.join(sorted(BALANCERS))}"
    settings = {key: value for key, value in given.items() if key != "kind"}
    return "; ".join(f"{key} {words}" for key, words in BALANCERS[kind].problems(settings).items())
