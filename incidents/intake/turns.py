"""What a message does to what is known of an alert; pure functions, so that every order can be tried.

1. A message older than what is known changes nothing but the count: bodies may arrive, and be read, in any order.
2. From firing to resolved, or back, is a turn. Many turns in a short time are flapping: the alert is calm again only
   after a while without any, and until then its incident is told nothing (docs/alerts.md).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from incidents.intake.said import Said
from incidents.models import Alert

FIRING, RESOLVED = str(Alert.State.FIRING), str(Alert.State.RESOLVED)

WINDOW = timedelta(minutes=10)
TURNS_AT_MOST = 5  # within the window; one more is flapping
CALM = timedelta(minutes=10)
# A message that it fires, of a firing that has ended, is a late one; so long after the end it is a new firing that
# the sender gives the old beginning (an Alertmanager that lost its Prometheus for a while).
LATE = timedelta(minutes=5)


@dataclass(slots=True)
class Standing:
    """How an alert stands. latest: the message whose texts it has now; None: those it had.

    due_at: when its incident is to hear of it, None when there is nothing to hear. acknowledge_at: its source said
    then that somebody has it, and the incident is to be acknowledged.
    """

    state: str
    started_at: datetime
    last_at: datetime
    ended_at: datetime | None = None
    count: int = 0
    turns: int = 0
    turns_since: datetime | None = None
    flapping_until: datetime | None = None
    due_at: datetime | None = None
    acknowledge_at: datetime | None = None
    latest: Said | None = None

    def hear(self, said: Said) -> None:
        """Take in one message."""
        self.count += 1
        late = self._is_old(said)
        self.last_at = max(self.last_at, said.at)
        if late:
            return
        if said.acknowledges:
            self.acknowledge_at = said.at if self.state == FIRING else None
            return
        self.latest = said
        before = self.state
        is_new = said.started_at is not None and said.started_at > self.started_at
        if said.firing:
            if is_new or before == RESOLVED:
                self.started_at = said.started_at or said.at
            self.state, self.ended_at = FIRING, None
        elif is_new or before == FIRING:
            self.started_at = max(self.started_at, said.started_at or self.started_at)
            self.state, self.ended_at = RESOLVED, said.ended_at or said.at
        if self.state != before:
            self._turn(said.at)

    def _is_old(self, said: Said) -> bool:
        if said.started_at is None:
            return said.at < self.last_at
        if said.started_at != self.started_at:
            return said.started_at < self.started_at
        return said.firing and self.ended_at is not None and said.at < self.ended_at + LATE

    def _turn(self, at: datetime) -> None:
        flapped = self.flapping_until is not None and at < self.flapping_until
        if self.turns_since is None or (at - self.turns_since > WINDOW and not flapped):
            self.turns, self.turns_since = 0, at
        self.turns += 1
        if flapped or self.turns > TURNS_AT_MOST:
            self.flapping_until = at + CALM
        # Flapping is said once; after that its incident hears of it when it is calm.
        if not flapped:
            self.due_at = at
        elif self.due_at is None or self.due_at > at:
            self.due_at = self.flapping_until


def first(said: Said) -> Standing:
    """How an alert stands that was never heard of before."""
    started = said.started_at or said.at
    if said.firing:
        return Standing(FIRING, started, said.at, count=1, due_at=said.at, latest=said)
    return Standing(RESOLVED, started, said.at, ended_at=said.ended_at or said.at, count=1, latest=said)
