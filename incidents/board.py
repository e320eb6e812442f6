"""What the board says of incidents: what needs somebody first, and how each environment stands."""

from django.urls import reverse
from django.utils import timezone

from controlplane.accounts.access import Actor
from controlplane.web.templatetags.ui import duration
from controlplane.web.tones import Tone
from environments.cards import Card, Contribution, LineCell
from environments.models import Environment
from incidents import auditor_board, late
from incidents.lessons import reminders
from incidents.listing import Row, unresolved
from incidents.models import Incident
from incidents.runbook.board import MISSED

CARDS = 4
# Has the auditor an alarm, or gone silent? Is an action item overdue? Was a task of the runbook missed?
QUESTIONS = (auditor_board.ALARMS, reminders.OVERDUE, MISSED)


def standing(actor: Actor, environments: list[Environment]) -> Contribution:
    """Cards for what is not over, the worst first; a line that says where."""
    rows = unresolved(actor)
    cells = {one.slug: _cell(one, [row.incident for row in rows]) for one in environments}
    return Contribution("Incidents", "what people deal with", cells, [*_cards(rows), *late.cards(actor, *QUESTIONS)])


def _cards(rows: list[Row]) -> list[Card]:
    cards = [Card(row.incident.tone, f"{row.incident.severity} · {row.incident.title}", _words(row),
                  row.incident.get_absolute_url(), since=row.incident.opened_at) for row in rows[:CARDS]]  # fmt: skip
    if len(rows) > CARDS:
        cards.append(Card(Tone.BAD, f"{len(rows) - CARDS} more incidents", "worst first", reverse("incidents")))
    return cards


def _words(row: Row) -> str:
    incident = row.incident
    if incident.state == Incident.State.ACKNOWLEDGED:
        return f"{incident.acknowledged_by_name} has it; {incident.get_phase_display()}"
    if row.following is None:
        return "nobody has it, and nobody is paged any more"
    left = max(0.0, (row.following.due_at - timezone.now()).total_seconds())
    return f"nobody has it; {row.following.role} ({row.whom}) is paged in {duration(left)}"


def _cell(environment: Environment, incidents: list[Incident]) -> LineCell:
    mine = [one for one in incidents if environment.slug in one.environments or not one.environments]
    if not mine:
        return LineCell(Tone.OK, "none", "", f"{reverse('incidents')}?environment={environment.slug}")
    worst = mine[0]
    more = f"and {len(mine) - 1} more" if len(mine) > 1 else worst.get_state_display()
    return LineCell(worst.tone, f"{worst.severity} {worst.get_state_display()}", f"{worst.title[:60]}, {more}",
                    worst.get_absolute_url())  # fmt: skip
