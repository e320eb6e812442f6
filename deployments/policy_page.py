"""What the page of an environment's rules says."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.clock.database import database_time
from deployments.gates.evidence import SEVERITIES
from deployments.gates.recurring_words import words_of
from deployments.gates.times import window_of
from deployments.gates.windows import Hours, opening
from deployments.models import FreezeWindow, Policy, ReleaseEvidence
from deployments.policies import groups_of, policy_of
from environments.models import Environment

AHEAD = timedelta(days=366)
SHOWN = 20


@dataclass(frozen=True)
class Freeze:
    """One freeze. begins, ends: of the time it closes now, or next; None when there is none within a year.

    again: how it repeats, in words; "" when it does not.
    """

    row: FreezeWindow
    begins: datetime | None
    ends: datetime | None
    again: str
    is_closing: bool


class PolicyPage:
    """The rules in words, and the freezes."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.policy: Policy = policy_of(environment)
        self.now = database_time()
        rows = list(FreezeWindow.objects.filter(environment=environment, ended_at=None))
        self.freezes = [self._freeze(row) for row in rows]
        self.ended = list(FreezeWindow.objects.filter(environment=environment).exclude(ended_at=None)[:SHOWN])
        self.groups = groups_of(self.policy)
        self.opens = opening([window_of(row) for row in rows], Hours.of(self.policy.hours), self.now)

    @property
    def is_open(self) -> bool:
        """Whether a deployment could start at this moment, as far as times go."""
        return self.opens == self.now

    @property
    def rules(self) -> list[tuple[str, str]]:
        """What is asked for, as title and words; what is not asked for is left out."""
        policy, before = self.policy, self.environment.promoted_from
        kinds = [str(ReleaseEvidence.Kind(kind).label) for kind in policy.evidence]
        bounds = [f"at most {policy.findings[name]} {name}" for name in SEVERITIES if name in policy.findings]
        backup = f"not older than {policy.backup_minutes} min; it {policy.get_backup_display()}"
        found = [
            ("approvals", self._approvals()),
            ("must have run in", f"{before} for {policy.soak_minutes} min" if policy.soak_minutes else before),
            ("has to be reported", ", ".join(kinds)),
            ("a scan may find", ", ".join(bounds)),
            ("keys that sign", str(len(policy.keys)) if policy.keys else ""),
            ("no open incident", " or ".join(policy.incidents)),
            ("verified backup", backup if policy.backup_minutes else ""),
            ("hours", str(Hours.of(policy.hours)) if policy.hours else ""),
            ("way back", policy.get_way_back_display() + " possible" if policy.way_back else ""),
        ]
        return [(title, words) for title, words in found if words]

    def _approvals(self) -> str:
        needed = self.policy.approvals_required
        groups = [
            f"{group['count']} of {group['name']} ({', '.join(group['people']) or 'nobody'})" for group in self.groups
        ]
        return f"{needed}, among them {', '.join(groups)}" if groups else str(needed or "")

    def _freeze(self, row: FreezeWindow) -> Freeze:
        window = window_of(row)
        closing = window.covering(self.now)
        following = closing or next(iter(sorted(window.between(self.now, self.now + AHEAD))), None)
        begins, ends = following or (None, None)
        return Freeze(row, begins, ends, words_of(row.rule) if row.rule else "", closing is not None)
