"""AWS's Classic Load Balancer, which the guide's script deregisters instances from.

https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/. With connection draining an instance is listed as "in
service" until what is under way has ended; only the words beside it say that it leaves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.operations.errors import StepError
from environments.aws import CHANGE_ATTEMPTS, READ_ATTEMPTS, code_of, in_words, other
from environments.balancers import amazon
from environments.balancers.base import Counted, Member, Seen, Standing

# AWS's own words, beside the states "InService" and "OutOfService".
LEAVES = "deregistration currently in progress"
ABSENT = "not currently registered"
ARRIVES = ("registration is still in progress", "has not passed the configured healthythreshold")
UNREGISTERED = ("InvalidInstance", "InvalidEndPoint")


class ClassicBalancer:
    """See `base.Balancer`.

    settings: `load_balancer`, its name; `instances`, by member's name the instance's id ("i-…"); those of the account
    as the ecs driver has them.
    """

    kind = "classic_elb"

    def problems(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the settings, in words, by key."""
        own = {"load_balancer": amazon.text, "instances": amazon.table}
        return amazon.problems(settings, own, ("load_balancer", "instances"))

    def look(self, settings: Mapping[str, Any], member: Member) -> Seen:
        """By the instance's state, and the words beside it."""
        try:
            with in_words("elasticloadbalancing:DescribeInstanceHealth", _said(settings)):
                answer = _client(settings, READ_ATTEMPTS).describe_instance_health(**_what(settings, member))
        except StepError as error:
            if code_of(error) in UNREGISTERED:
                return Seen(Standing.ABSENT, "not registered")
            raise
        state = answer["InstanceStates"][0]
        words = str(state.get("Description") or state["State"])
        if state["State"] == "Unknown":
            raise StepError(f"{_said(settings)} does not know how {member.name} is at the moment: {words}")
        return Seen(_standing(state["State"], words.lower()), words)

    def remove(self, settings: Mapping[str, Any], member: Member) -> None:
        """Deregister it. One that is not registered is left alone: AWS would refuse."""
        if self.look(settings, member).standing in (Standing.ABSENT, Standing.DRAINING):
            return
        with in_words("elasticloadbalancing:DeregisterInstancesFromLoadBalancer", _said(settings)):
            client = _client(settings, CHANGE_ATTEMPTS)
            client.deregister_instances_from_load_balancer(**_what(settings, member))

    def add(self, settings: Mapping[str, Any], member: Member) -> None:
        """Register it."""
        with in_words("elasticloadbalancing:RegisterInstancesWithLoadBalancer", _said(settings)):
            client = _client(settings, CHANGE_ATTEMPTS)
            client.register_instances_with_load_balancer(**_what(settings, member))

    def weigh(self, settings: Mapping[str, Any], weights: Mapping[Member, int]) -> None:
        """It knows no weights."""
        raise StepError("A Classic Load Balancer shares requests equally: it knows no weights.", permanent=True)

    def counted(self, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Counted]:
        """Nobody: AWS counts for the whole load balancer in CloudWatch, not by instance."""
        return {}


def _standing(state: str, words: str) -> Standing:
    if LEAVES in words:
        return Standing.DRAINING
    if state == "InService":
        return Standing.SERVING
    if ABSENT in words:
        return Standing.ABSENT
    return Standing.STARTING if any(one in words for one in ARRIVES) else Standing.UNHEALTHY


def _client(settings: Mapping[str, Any], attempts: int) -> Any:
    return other("elb", amazon.account_of(settings), attempts)


def _what(settings: Mapping[str, Any], member: Member) -> dict[str, Any]:
    instance = amazon.identity_of(settings, "instances", member)
    return {"LoadBalancerName": settings["load_balancer"], "Instances": [{"InstanceId": instance}]}


def _said(settings: Mapping[str, Any]) -> str:
    return f"the load balancer {settings['load_balancer']}"
