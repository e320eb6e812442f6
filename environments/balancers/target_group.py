"""AWS's target groups, of Application and Network Load Balancers.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-target-groups.html. A target that was
deregistered drains for the group's deregistration delay (300 s unless the group says otherwise), even when nothing is
under way: AWS does not tell how much is open, so its word is waited for.

A group has no weights of its own targets. With a second group, the weights are those of the forward action of a
listener or of one of its rules, which shares requests among the two groups.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from controlplane.operations.errors import StepError
from environments.aws import CHANGE_ATTEMPTS, READ_ATTEMPTS, in_words, other
from environments.balancers import amazon
from environments.balancers.base import Counted, Member, Seen, Standing
from environments.balancers.cloudwatch import counted_by_group

ARN = r"arn:aws[a-z-]*:elasticloadbalancing:([a-z0-9-]+):\d{12}:"
GROUP = re.compile(ARN + r"targetgroup/[^/\s]+/[0-9a-f]+")
LISTENER = re.compile(ARN + r"listener(?:-rule)?/[^\s]+")
MOST = 999  # of a group's weight, as AWS takes it
FULL = 100
STANDINGS = {
    "initial": Standing.STARTING,
    "healthy": Standing.SERVING,
    "unhealthy": Standing.UNHEALTHY,
    "unhealthy.draining": Standing.DRAINING,
    "draining": Standing.DRAINING,
    "unused": Standing.UNHEALTHY,  # registered, and yet nothing is sent: its reason says why
    "unavailable": Standing.SERVING,  # its health is not asked for
}
NOT_REGISTERED = "Target.NotRegistered"


class TargetGroupBalancer:
    """See `base.Balancer`.

    settings: `target_group`, its ARN; `targets`, by member's name the instance's id ("i-…"), left out where the group's
    targets are addresses; for weights `second_group`, with `first` and `second` (the names of the members of either)
    and `listener` (the ARN of a listener or of a rule); those of the account as the ecs driver has them.
    """

    kind = "target_group"

    def problems(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with the settings, in words, by key."""
        own = {"target_group": _group, "second_group": _group, "listener": _listener,
               "targets": amazon.table, "first": amazon.names, "second": amazon.names}  # fmt: skip
        together = ("second_group", "first", "second", "listener")
        wants = together if any(settings.get(key) for key in together) else ()
        wrong = amazon.problems(settings, own, ("target_group", *wants))
        for key in ("target_group", "second_group", "listener"):
            found = re.match(ARN, str(settings.get(key, "")))
            if key not in wrong and found and found[1] != settings.get("region"):
                wrong[key] = f"is in {found[1]}, and region says {settings.get('region')}"
        if not wrong and settings.get("second_group") == settings["target_group"]:
            wrong["second_group"] = "has to be another one than target_group"
        if not wrong and (both := sorted(set(settings.get("first", ())) & set(settings.get("second", ())))):
            wrong["second"] = f"names {', '.join(both)}, which first names too"
        if not wrong and wants and max(_parts(settings).values()) * FULL > MOST:
            wrong["second"] = f"and first differ too much in size: AWS's weights end at {MOST}, so {MOST // FULL} to 1"
        return wrong

    def look(self, settings: Mapping[str, Any], member: Member) -> Seen:
        """By the target's health, and the weights of the forward action where there are two groups."""
        group, target = _group_of(settings, member), _target(settings, member)
        with in_words("elasticloadbalancing:DescribeTargetHealth", _said(group)):
            answer = _client(settings, READ_ATTEMPTS).describe_target_health(TargetGroupArn=group, Targets=[target])
        rows = answer["TargetHealthDescriptions"]
        weight = _weights(settings).get(group) if settings.get("second_group") else None
        if not rows:
            return Seen(Standing.ABSENT, "not registered", weight=weight)
        health = rows[0]["TargetHealth"]
        reason = health.get("Reason", "")
        words = ", ".join(filter(None, (health["State"], reason, health.get("Description", ""))))
        standing = Standing.ABSENT if reason == NOT_REGISTERED else STANDINGS.get(health["State"], Standing.UNHEALTHY)
        return Seen(standing, words, weight=weight)

    def remove(self, settings: Mapping[str, Any], member: Member) -> None:
        """Deregister it. One that is not registered is left alone: AWS would refuse."""
        if self.look(settings, member).standing in (Standing.ABSENT, Standing.DRAINING):
            return
        group = _group_of(settings, member)
        with in_words("elasticloadbalancing:DeregisterTargets", _said(group)):
            _client(settings, CHANGE_ATTEMPTS).deregister_targets(
                TargetGroupArn=group, Targets=[_target(settings, member)]
            )

    def add(self, settings: Mapping[str, Any], member: Member) -> None:
        """Register it; one that drains still is taken back."""
        group = _group_of(settings, member)
        with in_words("elasticloadbalancing:RegisterTargets", _said(group)):
            _client(settings, CHANGE_ATTEMPTS).register_targets(
                TargetGroupArn=group, Targets=[_target(settings, member)]
            )

    def weigh(self, settings: Mapping[str, Any], weights: Mapping[Member, int]) -> None:
        """Share requests among the two groups; a group's members have one weight in common. Raises StepError."""
        if not settings.get("second_group"):
            words = "One target group shares requests equally. For weights name a second_group and the listener."
            raise StepError(words, permanent=True)
        wanted = dict.fromkeys(_parts(settings), 0) | _weights(settings)
        for group in {_group_of(settings, member) for member in weights}:
            of_it = {weight for member, weight in weights.items() if _group_of(settings, member) == group}
            if len(of_it) > 1:
                words = f"The members of {_said(group)} have one weight in common, not {sorted(of_it)}."
                raise StepError(words, permanent=True)
            wanted[group] = of_it.pop()
        _Forward.of(settings).share(settings, wanted)

    def counted(self, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Counted]:
        """Of two groups: what came to each, told of the first of its members here, as AWS counts by group."""
        if not settings.get("second_group"):
            return {}
        firsts: dict[str, str] = {}
        for member in members:
            firsts.setdefault(_group_of(settings, member), member.name)
        found = counted_by_group(settings, list(firsts))
        return {firsts[group]: one for group, one in found.items()}


# --- weights ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Forward:
    """The actions of a listener, or of one of its rules; the forward is the last of them."""

    arn: str
    actions: list[dict[str, Any]]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "_Forward":
        """As it is now. Raises StepError."""
        arn = settings["listener"]
        client = _client(settings, READ_ATTEMPTS)
        if _is_rule(arn):
            with in_words("elasticloadbalancing:DescribeRules", _said(arn)):
                found = client.describe_rules(RuleArns=[arn])["Rules"]
            actions = found[0]["Actions"] if found else []
        else:
            with in_words("elasticloadbalancing:DescribeListeners", _said(arn)):
                found = client.describe_listeners(ListenerArns=[arn])["Listeners"]
            actions = found[0]["DefaultActions"] if found else []
        if not actions or actions[-1]["Type"] != "forward":
            raise StepError(f"{_said(arn)} forwards nothing, so it has no weights to set.", permanent=True)
        return cls(arn, actions)

    @property
    def weights(self) -> dict[str, int]:
        """By group, as AWS has them; where only one group is named, all requests go there."""
        config = self.actions[-1].get("ForwardConfig", {}).get("TargetGroups", [])
        if len(config) > 1:
            return {one["TargetGroupArn"]: int(one.get("Weight", 1)) for one in config}
        only = config[0]["TargetGroupArn"] if config else self.actions[-1]["TargetGroupArn"]
        return {only: 0}

    def share(self, settings: Mapping[str, Any], weights: Mapping[str, int]) -> None:
        """Set the weights of the groups, by that of one member. What else the action says stays. Raises StepError."""
        parts = _parts(settings)
        rows = [{"TargetGroupArn": group, "Weight": weights[group] * part} for group, part in parts.items()]
        if max(weights[group] * part for group, part in parts.items()) > MOST:
            words = f"The two groups differ too much in size ({parts}): AWS takes weights up to {MOST}."
            raise StepError(words, permanent=True)
        if strangers := sorted(self.weights.keys() - parts.keys()):
            words = (
                f"{_said(self.arn)} forwards to others too ({', '.join(map(_said, strangers))}). Name only these two."
            )
            raise StepError(words, permanent=True)
        last = {key: value for key, value in self.actions[-1].items() if key != "TargetGroupArn"}
        last["ForwardConfig"] = {**last.get("ForwardConfig", {}), "TargetGroups": rows}
        actions = [*self.actions[:-1], last]
        client = _client(settings, CHANGE_ATTEMPTS)
        if _is_rule(self.arn):
            with in_words("elasticloadbalancing:ModifyRule", _said(self.arn)):
                client.modify_rule(RuleArn=self.arn, Actions=actions)
        else:
            with in_words("elasticloadbalancing:ModifyListener", _said(self.arn)):
                client.modify_listener(ListenerArn=self.arn, DefaultActions=actions)


def _weights(settings: Mapping[str, Any]) -> dict[str, int]:
    """By group, the weight of each of its members: a group's weight is that of all its members together.

    A group that the listener does not name has none, not even 0: AWS asks for nobody's health there, so that whoever is
    in it is never found well until the group is named.
    """
    now, parts = _Forward.of(settings).weights, _parts(settings)
    if len(now) == 1:
        return {group: FULL for group in parts if group in now}
    return {group: _each(now[group], part) for group, part in parts.items() if group in now}


def _each(weight: int, part: int) -> int:
    """Of one member, and never 0 for one that gets something."""
    return max(1, round(weight / part)) if weight else 0


def _parts(settings: Mapping[str, Any]) -> dict[str, int]:
    """How many members of the one group stand against how many of the other, in the smallest whole numbers."""
    first, second = len(settings["first"]), len(settings["second"])
    common = gcd(first, second)
    return {settings["target_group"]: first // common, settings["second_group"]: second // common}


# --- who and where ------------------------------------------------------------------------------------


def _client(settings: Mapping[str, Any], attempts: int) -> Any:
    return other("elbv2", amazon.account_of(settings), attempts)


def _group_of(settings: Mapping[str, Any], member: Member) -> str:
    key = "second_group" if member.name in settings.get("second", ()) else "target_group"
    return str(settings[key])


def _target(settings: Mapping[str, Any], member: Member) -> dict[str, Any]:
    identity = amazon.identity_of(settings, "targets", member) if settings.get("targets") else member.host
    return {"Id": identity, "Port": member.port}


def _is_rule(arn: str) -> bool:
    return ":listener-rule/" in arn


def _said(arn: str) -> str:
    """The ARN's readable end, "targetgroup/web/6d0e…"."""
    return arn.rpartition(":")[2]


def _group(value: Any) -> str:
    good = isinstance(value, str) and GROUP.fullmatch(value)
    return "" if good else "has to be the ARN of a target group"


def _listener(value: Any) -> str:
    good = isinstance(value, str) and LISTENER.fullmatch(value)
    return "" if good else "has to be the ARN of a listener, or of one of its rules"
