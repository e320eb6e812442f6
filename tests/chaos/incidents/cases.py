"""One alert and what becomes of it: an incident, pages, an acknowledgement at a random moment or none, the end."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from incidents.models import Alert, Incident, Level
from tests.chaos.incidents import clients
from tests.chaos.incidents.clients import Client
from tests.chaos.incidents.judge import BOUND_SECONDS, Verdict, judge

if TYPE_CHECKING:
    from tests.chaos.incidents.rounds import Chaos

STUCK_SECONDS = 120.0
# After the acknowledgement was known: what would still leave is seen by then.
SETTLE_SECONDS = 2.0


@dataclass
class Case:
    """patience: seconds after the opening when somebody acknowledges; None: nobody does before all were paged."""

    name: str
    begin_at: float
    patience: float | None
    critical: bool
    by: str
    alert: Client | None = None
    incident: Incident | None = None
    seen_at: float = 0.0
    answer: Client | None = None
    end: Client | None = None
    ended: float | None = None
    verdict: Verdict = field(default_factory=Verdict)

    def go_on(self, chaos: "Chaos") -> None:
        """One look at it. Raises OperationalError while PostgreSQL is away."""
        now = time.time()
        if self.alert is None:
            if now >= self.begin_at:
                self.alert = clients.alert(chaos.crew.port, chaos.source_token, self.name, critical=self.critical)
                self.alert.start()
        elif self.incident is None:
            self._find(now)
        elif self.answer is None:
            if self._is_time(now):
                self.answer = chaos.acknowledgement(self)
                self.answer.start()
        elif self.end is None:
            if self.answer.done is not None and now > self.answer.done + SETTLE_SECONDS:
                self.end = clients.resolve(chaos.crew.port, chaos.world.token, self.incident.pk)
                self.end.start()
        elif self.end.done is not None:
            self._finish(chaos)
        if self.ended is None and now > self.begin_at + STUCK_SECONDS:
            self._give_up(chaos)

    def _find(self, now: float) -> None:
        assert self.alert is not None
        if self.alert.done is None:
            return
        found = Alert.objects.filter(labels__case=self.name, incident__isnull=False).select_related("incident").first()
        if found is not None:
            self.incident, self.seen_at = found.incident, now
        elif now > self.alert.done + BOUND_SECONDS:
            self.verdict.wrong["lost"].append(f"the alert of {self.name} was taken and opened nothing")
            self.ended = now

    def _is_time(self, now: float) -> bool:
        assert self.incident is not None
        if self.patience is not None:
            return now >= self.seen_at + self.patience
        levels = Level.objects.filter(incident=self.incident)
        late = max(level.due_at.timestamp() for level in levels) + BOUND_SECONDS if levels else now
        return now > late + 1 or (not levels.filter(state=Level.State.PENDING).exists() and self._all_came(now))

    def _all_came(self, now: float) -> bool:
        """A moment for the last one to leave the outbox; the judge looks whether it did."""
        assert self.incident is not None
        waiting = self.incident.deliveries.filter(purpose="page", state__in=["queued", "sending"])
        return not waiting.exists()

    @property
    def known(self) -> float | None:
        """When somebody knew of the acknowledgement."""
        return self.answer.done if self.answer else None

    def _finish(self, chaos: "Chaos") -> None:
        assert self.incident is not None
        self.incident.refresh_from_db()
        self.ended = time.time()
        self.verdict = judge(chaos.log, self.incident, self.known, self.ended)

    def _give_up(self, chaos: "Chaos") -> None:
        if self.incident is not None:
            self._finish(chaos)
        self.ended = time.time()
        waits = "an incident" if self.incident is None else "its acknowledgement" if self.known is None else "its end"
        self.verdict.wrong["stuck"].append(f"{self.name} waits for {waits}")
