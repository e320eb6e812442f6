"""What somebody reads before they ask for a failover or the way home: what answers, restore points, the plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from backups.disaster.base import Candidate
from backups.disaster.services import Draft, draft
from backups.disaster.steps import probe
from backups.models import RecoveryPlan
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.operations.approvers import people_who_can
from controlplane.operations.gates import Gate, failed_gates
from controlplane.operations.planned import Planned
from controlplane.web.tones import Tone
from environments.models import Environment, Placement
from environments.samples import Health, health_of

POINTS = 12
# Of a promise: from here on it is in danger.
DANGER = 0.75


@dataclass(frozen=True)
class RestorePoint:
    """A candidate as a row of the page. lost: seconds of data that are not in it."""

    candidate: Candidate
    lost: float
    tone: Tone
    chosen: bool

    @property
    def as_of(self) -> datetime:
        """What was committed until then is in it."""
        return self.candidate.as_of


@dataclass(frozen=True)
class SideSeen:
    """What probes say of one side: asked just now, and heard by the clock before."""

    environment: Environment
    serves: bool
    probes: list[dict[str, Any]]
    heard: list[tuple[str, Health]]

    @property
    def well(self) -> int:
        """How many answer well."""
        return sum(bool(one["well"]) for one in self.probes)

    @property
    def tone(self) -> Tone:
        """Whether it answers."""
        if not self.probes:
            return Tone.IDLE
        return Tone.OK if self.well == len(self.probes) else Tone.BAD if not self.well else Tone.WAIT

    @property
    def word(self) -> str:
        """The same in words."""
        return f"{self.well} of {len(self.probes)} answer well" if self.probes else "nothing to ask there"


class Proposal:
    """What would happen, and what is known. It asks the network: never within a transaction."""

    def __init__(self, actor: Actor, plan: RecoveryPlan, kind: str, point: str = "") -> None:
        self._actor = actor
        self.plan = plan
        self.draft: Draft = draft(plan, kind, point)

    @cached_property
    def planned(self) -> Planned | None:
        """The steps, as templates read them; None where nothing can be planned."""
        return Planned(self.draft.plan.as_json()) if self.draft.plan else None

    @property
    def refused(self) -> list[Gate]:
        """What forbids it now."""
        return failed_gates(self.draft.gates)

    @property
    def may_be_asked_for(self) -> bool:
        """There is a plan, and nothing forbids it."""
        return self.draft.plan is not None and not self.refused

    @cached_property
    def points(self) -> list[RestorePoint]:
        """The newest restore points, and the chosen one wherever it stands."""
        now, chosen = database_time(), self.draft.point
        shown: Sequence[Candidate] = self.draft.candidates[:POINTS]
        if chosen is not None and chosen not in shown:
            shown = [*shown, chosen]
        return [self._row(one, now, chosen) for one in shown]

    def _row(self, one: Candidate, now: datetime, chosen: Candidate | None) -> RestorePoint:
        lost, promised = max(0.0, (now - one.as_of).total_seconds()), self.plan.rpo_seconds
        tone = Tone.BAD if lost > promised else Tone.WAIT if lost > DANGER * promised else Tone.OK
        return RestorePoint(one, lost, tone, chosen == one)

    @cached_property
    def sides(self) -> list[SideSeen]:
        """The one that people are to leave first."""
        both = [self.plan.serving, self.plan.waiting]
        placements = list(Placement.objects.filter(environment__in=both).select_related("service"))
        health = health_of(placements)
        return [
            SideSeen(
                side, side == self.plan.serving, probe(side),
                [(one.service.slug, health[one.pk]) for one in placements if one.environment_id == side.pk],
            )
            for side in both
        ]  # fmt: skip

    @cached_property
    def approvers(self) -> list[str]:
        """Who else could approve it."""
        return people_who_can(Role.APPROVER, self.plan.scopes, besides=self._actor.person.pk)
