"""Blue/green: two sets of instances, of which one serves. The other gets the release, then all requests at once.

1. All requests to the colour that serves (it is so already but for the first time);
2. the driver brings the release to the idle colour, completely, with its checks; nobody notices;
3. the switch: weights 100 and 0 change sides;
4. the new colour is watched for a while; if it fails, the switch is turned back, then the idle colour put back.

The old colour is left running. Deploying what it runs is nothing but the switch: that is the way back, in seconds,
until the next deployment needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controlplane.operations.errors import Invalid
from controlplane.operations.plans import ALREADY, Plan, StepSpec
from deployments.strategies.rolling import summary_of
from deployments.strategies.settings import BlueGreenSettings
from deployments.strategies.situation import Balanced, Situation, can_be_narrowed, fits_groups, known, part, undo_of
from deployments.strategies.weights import FULL, weigh_step
from deployments.strategies.weights import GROUP as TRAFFIC
from environments.drivers.base import Driver, Running, Software

READY, SOAK = "strategy.ready", "strategy.soak"
GROUP = "takeover"
IDLE, LIVE = "idle", "live"
MARGIN_SECONDS = 60.0
READY_SECONDS = 60.0
SWITCH = "switch"
BACK = "put-back/switch"


def blue_green_plan(driver: Driver, situation: Situation, to: Software, settings: BlueGreenSettings) -> Plan:
    """Raises Invalid, in words, where there cannot be two colours."""
    colours = colours_of(situation, settings)
    serving = situation.at(colours.live)
    if _on(serving, to):
        # Steps only where one of them is not as it should be with its load balancer.
        mending = part(driver, situation, colours.live, to, key=LIVE)
        rows = mending.changes or tuple({"what": one.instance, "from": one.version, "to": ALREADY} for one in serving)
        return Plan(summary_of(situation, to, serving), mending.steps, mending.recovery, rows)
    renewal = part(driver, situation, colours.idle, to, key=IDLE)
    back = weigh_step(BACK, f"all requests to {colours.live_name} again", colours.balanced, colours.now)
    return Plan(
        summary=summary_of(situation, to, serving, f"{colours.idle_name} takes over from {colours.live_name}"),
        steps=(*_apart(colours), *renewal.steps, *_takeover(settings, colours, (BACK, *undo_of(renewal)))),
        recovery=(back, *renewal.recovery),
        changes=(*renewal.changes, *_told(settings, colours)),
    )


@dataclass(frozen=True)
class Colours:
    """Which instances serve, and which are idle."""

    balanced: Balanced
    live_name: str
    idle_name: str
    live: tuple[str, ...]
    idle: tuple[str, ...]

    @property
    def now(self) -> dict[str, int]:
        """The weights that go with it."""
        return toward(self.live, self.idle)

    @property
    def switched(self) -> dict[str, int]:
        """The weights the other way round."""
        return toward(self.idle, self.live)


def toward(those: Sequence[str], others: Sequence[str]) -> dict[str, int]:
    """The weights that send all requests to `those`."""
    return dict.fromkeys(those, FULL) | dict.fromkeys(others, 0)


def colours_of(situation: Situation, settings: BlueGreenSettings) -> Colours:
    """Live is the colour that alone has weight. Where both have, or none, it is the one that alone runs what was
    deployed: a load balancer that was restarted may have forgotten. Before the first switch it is blue. Raises Invalid.
    """
    balanced = checked(situation, settings)
    blue, green = (any(balanced.weights.get(name) for name in names) for names in (settings.blue, settings.green))
    if (green and not blue) or (green == blue and _is_green_by_what_runs(situation, settings)):
        return Colours(balanced, "green", "blue", settings.green, settings.blue)
    return Colours(balanced, "blue", "green", settings.blue, settings.green)


def _is_green_by_what_runs(situation: Situation, settings: BlueGreenSettings) -> bool:
    on = {one.instance for one in situation.running if one.digest == situation.deployed}
    blue, green = (on.issuperset(names) for names in (settings.blue, settings.green))
    if situation.deployed and not blue and not green:
        raise Invalid(
            "The weights of the load balancer do not say which colour serves, and neither runs on all of its instances "
            "what was deployed. Send all requests to one of them there, or choose rolling."
        )
    return green and not blue


def checked(situation: Situation, settings: BlueGreenSettings) -> Balanced:
    """The load balancer. Raises Invalid where the settings do not fit what there is."""
    if words := can_be_narrowed(situation.driver, "Blue/green"):
        raise Invalid(words)
    for colour, names in (("blue", settings.blue), ("green", settings.green)):
        if not names:
            raise Invalid(f'{colour} has no instances. Name them in the strategy\'s table: {colour} = ["…"].')
        known(situation, names, colour)
    if both := sorted(set(settings.blue) & set(settings.green)):
        raise Invalid(f"{', '.join(both)} cannot be blue and green. Mend the strategy's table.")
    if left := sorted(set(situation.names) - set(settings.blue) - set(settings.green)):
        raise Invalid(f"{', '.join(left)} is neither blue nor green. Mend the strategy's table.")
    fits_groups(situation.balanced, settings.blue, settings.green, "Blue")
    if situation.balanced is None or not situation.balanced.weighs:
        raise Invalid(
            "Blue/green switches by the weights of a load balancer, and the driver settings of "
            f"{situation.target.environment} name none that knows weights. Name one, or choose rolling."
        )
    return situation.balanced


def serving_at(situation: Situation, settings: BlueGreenSettings) -> list[Running]:
    """What people get now: what the live colour runs. Raises Invalid as the plan does."""
    return situation.at(colours_of(situation, settings).live)


def after_switch(situation: Situation, to: Software, settings: BlueGreenSettings) -> Situation:
    """What there will be once a deployment of `to` has gone well."""
    colours = colours_of(situation, settings)
    if _on(situation.at(colours.live), to):
        return situation
    running = [one.after(situation.target, to) if one.instance in colours.idle else one for one in situation.running]
    balanced = replace(colours.balanced, weights=colours.switched)
    return replace(situation, running=running, balanced=balanced, deployed=to.digest)


def _on(serving: Sequence[Running], to: Software) -> bool:
    """Whether it is there just as a deployment would leave it: `reference` says what else differs."""
    return bool(serving) and all(one.digest == to.digest and not one.reference for one in serving)


def _apart(colours: Colours) -> tuple[StepSpec, ...]:
    """Nothing to put back: if it fails half-way, the colour that serves has its full weight all the same."""
    if {name: colours.balanced.weights.get(name) for name in colours.now} == colours.now:
        return ()
    return (weigh_step("apart", f"all requests to {colours.live_name}", colours.balanced, colours.now, safe=True),)


def _takeover(settings: BlueGreenSettings, colours: Colours, undo: tuple[str, ...]) -> tuple[StepSpec, ...]:
    """See that the idle colour is well, switch, watch what it brought."""
    name = colours.idle_name
    place = {
        "balancer": dict(colours.balanced.named),
        "members": [dict(colours.balanced.members[one]) for one in colours.idle],
    }
    well = StepSpec(
        "ready", f"see that {name} is well", READY, place, GROUP, READY_SECONDS, on_failure=undo[1:], safe_point=True
    )
    switch = weigh_step(SWITCH, f"all requests to {name}", colours.balanced, colours.switched, undo)
    if not settings.soak_seconds:
        return well, switch
    limits = {
        "seconds": settings.soak_seconds,
        "interval": settings.interval_seconds,
        "errors_percent": settings.errors_percent,
        "least_requests": settings.least_requests,
    }
    soak = StepSpec(
        "soak", f"watch {name} for {settings.soak_seconds:g} s", SOAK, {**place, **limits}, GROUP,
        settings.soak_seconds + MARGIN_SECONDS, on_failure=undo, interruptible=True,
    )  # fmt: skip
    return well, switch, soak


def _told(settings: BlueGreenSettings, colours: Colours) -> tuple[dict[str, str], ...]:
    """What the approver reads about the switch."""
    soak = f"; back if more than {settings.errors_percent:g} % fail within {settings.soak_seconds:g} s"
    to = f"{colours.idle_name} ({', '.join(colours.idle)}), at once{soak if settings.soak_seconds else ''}"
    return (
        {"what": TRAFFIC, "from": f"{colours.live_name} ({', '.join(colours.live)})", "to": to},
        {"what": colours.live_name, "from": "serving", "to": "left running, for the way back"},
    )
