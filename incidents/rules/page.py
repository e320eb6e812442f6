"""What the pages of alert rules say, for one person."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from controlplane.accounts.access import Actor
from controlplane.web.tones import Tone
from incidents.models import AlertRule, AlertSeverity, ChannelKind, RuleState
from incidents.rules.access import visible_rules, visible_states
from incidents.rules.alerts import meaning
from incidents.rules.conditions import ConditionError, parse
from incidents.rules.evaluation import bound_of, dimension_of
from incidents.rules.metrics import METRICS, Metric
from incidents.rules.promql import expression
from incidents.rules.sources import source_name
from incidents.rules.tree import Comparison, Condition, metrics_of, parts, printed
from incidents.rules.units import shown

State = RuleState.State
# Worst first; what nobody knows comes before what is fine.
ORDER = (State.FIRING, State.PENDING, State.MISSING, State.FINE)
TONES = {State.FINE: Tone.OK, State.PENDING: Tone.WAIT, State.FIRING: Tone.BAD, State.MISSING: Tone.WAIT}


@dataclass(frozen=True)
class Standing:
    """One rule in one environment, as people read it."""

    row: RuleState
    condition: Condition | None

    @property
    def tone(self) -> Tone:
        """Red once it fires, also while its data are missing."""
        return Tone.BAD if self.row.told_since else TONES[State(self.row.state)]

    @property
    def word(self) -> str:
        """The state; and that its alert is still out."""
        if self.row.state == State.MISSING and self.row.told_since:
            return "firing, no data"
        return str(self.row.get_state_display())

    @property
    def value(self) -> str:
        """The value of the last look; "" when there was none."""
        if self.row.value is None or self.condition is None:
            return ""
        compared = next(part for part in parts(self.condition) if isinstance(part, Comparison))
        side = compared.left if metrics_of(compared.left) else compared.right
        return shown(self.row.value, dimension_of(side))

    @property
    def fires_at(self) -> datetime | None:
        """When it will fire, if it goes on to hold."""
        if self.row.state != State.PENDING or self.row.held_since is None:
            return None
        return self.row.held_since + timedelta(seconds=self.row.rule.for_seconds)

    @property
    def label(self) -> str:
        """The sparkline in words."""
        return f"the last {len(self.row.recent)} values in {self.row.environment}"


@dataclass(frozen=True)
class RuleView:
    """One rule with how it stands. condition None: it cannot be understood any more; problem: why."""

    rule: AlertRule
    standings: Sequence[Standing]
    condition: Condition | None
    problem: str = ""

    @property
    def words(self) -> str:
        """The condition in words."""
        return meaning(self.rule)

    @property
    def bound(self) -> str:
        """What its value is compared with."""
        return bound_of(self.condition) if self.condition else ""

    @property
    def notify(self) -> str:
        """The channels, in people's words."""
        return ", ".join(str(ChannelKind(kind).label) for kind in self.rule.notify if kind in ChannelKind.values)

    @property
    def severity_tone(self) -> Tone:
        """Of the severity's word."""
        tones = {AlertSeverity.CRITICAL: Tone.BAD, AlertSeverity.WARNING: Tone.WAIT}
        return tones.get(AlertSeverity(self.rule.severity), Tone.IDLE)


def view_of(rule: AlertRule, rows: Sequence[RuleState]) -> RuleView:
    """A rule and its rows, worst first."""
    condition, problem = _understood(rule)
    ordered = sorted(rows, key=lambda row: ORDER.index(State(row.state)))
    return RuleView(rule, [Standing(row, condition) for row in ordered], condition, problem)


def _understood(rule: AlertRule) -> tuple[Condition | None, str]:
    try:
        return parse(rule.condition), ""
    except ConditionError as error:
        return None, str(error)


class RulesPage:
    """All rules: those that fire first."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.source = source_name()

    @cached_property
    def rules(self) -> list[RuleView]:
        """The rules, by the worst of their states."""
        views = [view_of(rule, list(rule.states.all())) for rule in visible_rules(self._actor)]
        return sorted(views, key=lambda view: min((ORDER.index(State(one.row.state)) for one in view.standings),
                                                  default=len(ORDER)))  # fmt: skip

    @property
    def counts(self) -> list[tuple[Tone, str, int]]:
        """How many states there are of each sort; nothing that is zero."""
        every = [one.row.state for view in self.rules for one in view.standings]
        return [(TONES[state], state.label, every.count(state)) for state in ORDER if state in every]


class RulePage:
    """One rule."""

    def __init__(self, actor: Actor, rule: AlertRule) -> None:
        self.view = view_of(rule, list(visible_states(actor).filter(rule=rule)))
        self.source = source_name()

    @property
    def printed(self) -> str:
        """The condition as its tree prints it."""
        return printed(self.view.condition) if self.view.condition else self.view.rule.condition

    @property
    def metrics(self) -> list[Metric]:
        """Those of the condition, with what they mean."""
        return [METRICS[name] for name in metrics_of(self.view.condition)] if self.view.condition else []

    @property
    def promql(self) -> str:
        """The same for a Prometheus server."""
        return expression(self.view.condition) if self.view.condition else ""
