"""What moto leaves out of load balancers: targets that are not well at once, and that drain before they are gone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.aws.requests import Request

if TYPE_CHECKING:
    from tests.aws.cloud import Cloud

NOT_REGISTERED = "Target.NotRegistered"
TARGET_WORDS = {
    "initial": ("Elb.RegistrationInProgress", "Target registration is in progress"),
    "healthy": ("", ""),
    "unhealthy": ("Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]"),
    "draining": ("Target.DeregistrationInProgress", "Target deregistration is in progress"),
    "unused": (NOT_REGISTERED, "Target is not registered to the target group"),
}
CLASSIC_WORDS = {
    "initial": ("OutOfService", "ELB", "Instance registration is still in progress."),
    "healthy": ("InService", "N/A", "N/A"),
    "unhealthy": ("OutOfService", "Instance",
                  "Instance has failed at least the UnhealthyThreshold number of health checks consecutively."),
    "draining": ("InService", "N/A", "Instance deregistration currently in progress."),
    "unused": ("OutOfService", "Instance", "Instance is not currently registered with the LoadBalancer."),
}  # fmt: skip


@dataclass
class _Known:
    """A target that was registered. leaves: it drains."""

    well: bool = False
    leaves: bool = False
    # Counts up with each change, so that what was to come about before no longer does.
    turn: int = 0


class Balancing:
    """Targets and instances over time, `cloud.durations.well` and `drain`; by moto everything is so at once."""

    def __init__(self, cloud: "Cloud") -> None:
        self.cloud = cloud
        self.reset()

    def reset(self) -> None:
        """A new world."""
        self._known: dict[tuple[str, str, str], _Known] = {}
        self._ill: set[str] = set()

    # --- for tests ----------------------------------------------------------------------------------

    def fall_ill(self, target: str) -> None:
        """Health checks of a target (its address or instance) fail from now on, until `recover`."""
        self._ill.add(target)

    def recover(self, target: str) -> None:
        """They succeed again."""
        self._ill.discard(target)

    def hold(self, region: str, group: str, targets: list[tuple[str, int]]) -> None:
        """These are in the target group, and well, and no others."""
        self._known = {key: one for key, one in self._known.items() if key[0] != f"{region}/{group}"}
        self._known |= {(f"{region}/{group}", host, str(port)): _Known(well=True) for host, port in targets}

    def held(self, region: str, group: str) -> list[tuple[str, int]]:
        """Who is in it."""
        return [(host, int(port)) for where, host, port in self._known if where == f"{region}/{group}"]

    # --- for the layer ------------------------------------------------------------------------------

    def own_answer(self, request: Request) -> str | None:
        """The health of the targets that were asked for; None: moto knows."""
        if request.action == "DescribeTargetHealth":
            asked = _targets(request) or [
                (host, str(port)) for host, port in self.held(request.region, request.values["TargetGroupArn"])
            ]
            rows = "".join(self._target_row(request, identity, port) for identity, port in asked)
            return f"<TargetHealthDescriptions>{rows}</TargetHealthDescriptions>"
        if request.action == "DescribeInstanceHealth" and (asked := _targets(request)):
            rows = "".join(self._instance_row(request, identity) for identity, _ in asked)
            return f"<InstanceStates>{rows}</InstanceStates>"
        return None

    def after(self, request: Request) -> None:
        """Let a registration become healthy, and a deregistration come to its end."""
        for identity, port in _targets(request):
            key = _key(request, identity, port)
            if request.action in ("RegisterTargets", "RegisterInstancesWithLoadBalancer"):
                known = self._known.setdefault(key, _Known())
                if known.well and not known.leaves:
                    continue
                known.leaves, known.well, known.turn = False, False, known.turn + 1
                self.cloud.later(self.cloud.durations.well, self._arrival(known, known.turn))
            elif key in self._known and not self._known[key].leaves:
                known = self._known[key]
                known.leaves, known.turn = True, known.turn + 1
                self.cloud.later(self.cloud.durations.drain, self._departure(key, known.turn))

    def _arrival(self, known: _Known, turn: int) -> Callable[[], None]:
        def arrive() -> None:
            known.well = known.well or known.turn == turn

        return arrive

    def _departure(self, key: tuple[str, str, str], turn: int) -> Callable[[], None]:
        def depart() -> None:
            if key in self._known and self._known[key].turn == turn:
                del self._known[key]

        return depart

    def _state(self, request: Request, identity: str, port: str) -> str:
        known = self._known.get(_key(request, identity, port))
        if known is None:
            return "unused"
        if known.leaves:
            return "draining"
        if identity in self._ill:
            return "unhealthy"
        return "healthy" if known.well else "initial"

    def _target_row(self, request: Request, identity: str, port: str) -> str:
        state = self._state(request, identity, port)
        reason, words = TARGET_WORDS[state]
        why = f"<Reason>{reason}</Reason><Description>{words}</Description>" if reason else ""
        return (
            f"<member><Target><Id>{identity}</Id><Port>{port}</Port></Target>"
            f"<TargetHealth><State>{state}</State>{why}</TargetHealth></member>"
        )

    def _instance_row(self, request: Request, identity: str) -> str:
        state, reason, words = CLASSIC_WORDS[self._state(request, identity, "")]
        return (
            f"<member><InstanceId>{identity}</InstanceId><State>{state}</State>"
            f"<ReasonCode>{reason}</ReasonCode><Description>{words}</Description></member>"
        )


def _key(request: Request, identity: str, port: str) -> tuple[str, str, str]:
    where = request.values.get("TargetGroupArn") or request.values.get("LoadBalancerName", "")
    return f"{request.region}/{where}", identity, port


def _targets(request: Request) -> list[tuple[str, str]]:
    """Identity and port of each that the request names; a classic load balancer's have no port of their own."""
    values, found = request.values, []
    for number in range(1, 100):
        instance = values.get(f"Instances.member.{number}.InstanceId", "")
        identity = str(values.get(f"Targets.member.{number}.Id", instance))
        if not identity:
            break
        found.append((identity, str(values.get(f"Targets.member.{number}.Port", ""))))
    return found
