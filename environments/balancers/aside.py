"""Instances that were left without requests on purpose: whether they get some all the same.

A load balancer that was restarted may have forgotten the weights, and then the release before serves again.
"""

from collections.abc import Iterable

from environments.balancers import BALANCERS
from environments.balancers.base import member_of
from environments.drivers.base import Difference, Instance, Target

WANTED = "no requests: it is the way back"


def differences(target: Target, aside: Iterable[Instance]) -> list[Difference]:
    """Those of them that have weight. Asks the load balancer; raises StepError, in words."""
    named = dict(target.settings.get("balancer") or {})
    balancer = BALANCERS.get(str(named.pop("kind", "")))
    found = []
    for instance in aside:
        member = member_of(instance.name, instance.address)
        if balancer is None or member is None:
            continue
        if weight := balancer.look(named, member).weight:
            found.append(Difference("registration", instance.name, WANTED, f"weight {weight}"))
    return found
