"""How a rule stands in one environment, from one look to the next: the whole machine, without a database.

            fine  → pending → firing → fine            pending: it holds, but not yet for `for`
    any of them   → missing → any of them              missing: nobody knows, which is never "fine"

1. While it holds, `held_since` stays; it fires once that is `for` ago. A gap in the data shorter than that does not
   start it anew; a longer one does.
2. Data that go missing end no alert: only data that say so do.
3. Without data for longer than `for`, and at least a minute, that is an alert of its own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from incidents.models import RuleState

State = RuleState.State
# A single answer that was late is no alert yet.
PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True)
class Standing:
    """state: since `since`. told_since, nodata_since: since when its alert, and that of missing data, are out."""

    state: str
    since: datetime
    held_since: datetime | None = None
    told_since: datetime | None = None
    nodata_since: datetime | None = None


def turn(before: Standing, holds: bool | None, now: datetime, for_seconds: int) -> Standing:
    """How it stands after a look. holds None: data are missing. now: of the look, by database time."""
    wait = timedelta(seconds=for_seconds)
    patience = max(wait, PATIENCE)
    was_missing = before.state == State.MISSING
    if holds is None:
        since = before.since if was_missing else now
        out = before.nodata_since or (now if now - since >= patience else None)
        return Standing(State.MISSING, since, before.held_since, before.told_since, out)
    if not holds:
        return Standing(State.FINE, before.since if before.state == State.FINE else now)
    held = before.held_since
    if held is None or (was_missing and before.told_since is None and now - before.since > patience):
        held = now
    told = before.told_since or (now if now - held >= wait else None)
    return Standing(State.FIRING, told, held, told) if told else Standing(State.PENDING, held, held)
