"""The simulated cloud over virtual time: how long things take, which regions are out of reach, what is allowed.

    layer.cloud.start(speed=600)             # from here on time passes, ten minutes a second
    layer.cloud.start()                      # or only by `layer.cloud.advance(60)`
    layer.cloud.cut("us-east-1")             # the region is gone, for everybody; "route53" is a place of its own
    layer.cloud.cut("us-east-1", "hangs")    # or takes calls and never answers
    layer.cloud.mend("us-east-1")
    layer.cloud.endpoint("us-west-2")        # a URL of this region alone; `layer.url` reaches them all
    layer.cloud.names.lookup("api.pitchey.com")
    layer.cloud.balancing.fall_ill("10.0.0.1")   # a target's health checks fail; it drains and gets well over time
    layer.cloud.rds.automated_snapshot("us-east-1", "pitchey", "rds:pitchey-2026-11-28", age=1800)
    layer.cloud.quotas["rds", "instances"] = 1
    layer.cloud.denied.add("rds:RestoreDBInstanceFromDBSnapshot")
    layer.will("CopyDBSnapshot", LOST_AFTER) # one call's fault; see `layer`

Before `start`, and after `layer.reset()`, nothing takes any time.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from typing import Any, Literal

from tests.aws.balancing import Balancing
from tests.aws.clock import VirtualClock
from tests.aws.ecs import Ecs
from tests.aws.names import Names
from tests.aws.rds import Rds
from tests.aws.requests import Request

How = Literal["refuses", "hangs"]
QUOTAS = {("rds", "instances"): 40, ("fargate", "L-3032A538"): 512}


@dataclass(frozen=True)
class Durations:
    """How many virtual seconds things take.

    restore: a database from a snapshot or point in time. replica: until a new one is available. delete: how long a
    deleted instance is still seen. dns: PENDING to INSYNC. health: until checkers notice. tasks_*: of ECS.
    well, drain: a load balancer's target, from registered to healthy and from deregistered to gone.
    """

    restore: float = 1200.0
    copy: float = 900.0
    snapshot: float = 300.0
    promote: float = 300.0
    replica: float = 1200.0
    rename: float = 60.0
    reboot: float = 30.0
    stop: float = 180.0
    delete: float = 120.0
    dns: float = 60.0
    health: float = 30.0
    tasks_start: float = 480.0
    tasks_stop: float = 60.0
    well: float = 10.0
    drain: float = 300.0


AT_ONCE = Durations(**dict.fromkeys(Durations.__dataclass_fields__, 0.0))


class Cloud:
    """See the module. Everything a test sets here holds until the layer is reset."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.rds = Rds(self)
        self.names = Names(self)
        self.balancing = Balancing(self)
        self._listeners: list[Callable[[str, bool], None]] = []
        self.open_endpoint: Callable[[str], str] = lambda region: ""
        self._ecs: dict[str, Ecs] = {}
        self.reset()

    def reset(self) -> None:
        """A new world, in which nothing takes any time."""
        self.clock = VirtualClock()
        self.timed = False
        self.durations = AT_ONCE
        self.quotas: dict[tuple[str, str], int] = dict(QUOTAS)
        self.denied: set[str] = set()
        self.known_regions: set[str] = set()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._cuts: dict[str, tuple[How, datetime]] = {}
        self.counted: dict[str, int] = defaultdict(int)
        for ecs in self._ecs.values():
            ecs.reset()
        self.rds.reset()
        self.names.reset()
        self.balancing.reset()

    # --- time ---------------------------------------------------------------------------------------

    def start(self, speed: float = 0.0, **durations: float) -> None:
        """Let time count from now on: `speed` virtual seconds in a real one, and other durations if given."""
        self.clock.speed = speed
        self.timed = True
        self.durations = replace(Durations(), **durations)
        for ecs in self._ecs.values():
            self._lend_time(ecs)

    def advance(self, seconds: float) -> None:
        """Let so many virtual seconds pass at once."""
        self.clock.advance(seconds)

    def later(self, seconds: float, act: Callable[[], object]) -> datetime:
        """Have something come about; returns when."""
        at = self.clock.now() + timedelta(seconds=seconds)
        if seconds:
            heappush(self._due, (at.timestamp(), next(self._numbers), act))
        else:
            act()
        return at

    def settle(self) -> None:
        """Bring about what is due by now; the layer does it before every request."""
        while self._due and self._due[0][0] <= self.clock.seconds():
            heappop(self._due)[2]()

    # --- places -------------------------------------------------------------------------------------

    def cut(self, place: str, how: How = "refuses") -> None:
        """A region (or "route53", "iam") cannot be reached: it refuses connections, or hangs."""
        self._cuts[place] = how, self.clock.now()
        for listener in self._listeners:
            listener(place, how == "refuses")

    def mend(self, place: str) -> None:
        """It can be reached again."""
        self._cuts.pop(place, None)
        for listener in self._listeners:
            listener(place, False)

    def trouble(self, place: str) -> How | None:
        """How the place is out of reach, None when it is not."""
        return self._cuts[place][0] if place in self._cuts else None

    def cut_at(self, place: str) -> datetime | None:
        """Since when."""
        return self._cuts[place][1] if place in self._cuts else None

    def on_cut(self, listener: Callable[[str, bool], None]) -> None:
        """Called with the place and whether it refuses connections, whenever that may have changed."""
        self._listeners.append(listener)

    def endpoint(self, region: str) -> str:
        """A URL that leads to this region alone; once the region refuses, nobody listens there."""
        return self.open_endpoint(region)

    def ecs(self, region: str) -> Ecs:
        """A region's ECS."""
        if region not in self._ecs:
            self._ecs[region] = Ecs(region, partial(self.balancing.hold, region))
            if self.timed:
                self._lend_time(self._ecs[region])
        return self._ecs[region]

    def _lend_time(self, ecs: Ecs) -> None:
        ecs.keep_time(self.clock.seconds, self.durations.tasks_start, self.durations.tasks_stop)

    # --- what moto does not play --------------------------------------------------------------------

    def own_answer(self, request: Request) -> Any:
        """A JSON answer (dict), an XML document (str), or None: moto knows."""
        if request.service == "rds" and (content := self.rds.own_answer(request)) is not None:
            return _result(request.action, content)
        if request.service == "elasticloadbalancing" and (content := self.balancing.own_answer(request)) is not None:
            return _result(request.action, content)
        if request.service == "route53":
            return self.names.own_answer(request)
        if request.action == "SimulatePrincipalPolicy":
            return _result(request.action, f"<EvaluationResults>{self._simulated(request)}</EvaluationResults>")
        if request.action == "GetServiceQuota":
            value = self.quotas[request.values["ServiceCode"], request.values["QuotaCode"]]
            return {"Quota": {**request.values, "Value": float(value)}}
        if request.action == "GetMetricStatistics" and request.values.get("Namespace") == "AWS/RDS":
            dimensions = {one["Name"]: one["Value"] for one in request.values["Dimensions"]}
            found = self.rds.lag(request.region, dimensions["DBInstanceIdentifier"])
            points = [{"Timestamp": found[0].timestamp(), "Maximum": found[1], "Unit": "Seconds"}] if found else []
            return {"Label": request.values["MetricName"], "Datapoints": points}
        return None

    def _simulated(self, request: Request) -> str:
        actions = [value for key, value in request.values.items() if key.startswith("ActionNames.member.")]

        def row(action: str) -> str:
            decision = "implicitDeny" if action in self.denied else "allowed"
            return f"<member><EvalActionName>{action}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>"

        return "".join(row(action) for action in actions)


def _result(action: str, content: str) -> str:
    return f"<{action}Response><{action}Result>{content}</{action}Result></{action}Response>"
