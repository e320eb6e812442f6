"""What the board says of the runbook: one card for what was missed, as long as it is not done."""

from django.db.models import Exists, OuterRef
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.web.tones import Tone
from environments.cards import Card, Contribution
from environments.models import Environment
from incidents.models import RunbookRun

State = RunbookRun.State


def missed_cards(actor: Actor, environments: list[Environment]) -> Contribution:
    """Tasks whose last run was missed; its next run, once done, closes the matter."""
    if actor.scopes(Role.VIEWER) == []:
        return Contribution("Runbook", "")
    later = RunbookRun.objects.filter(task=OuterRef("task"), due_at__gt=OuterRef("due_at")).exclude(state=State.OPEN)
    rows = RunbookRun.objects.filter(state=State.MISSED, task__paused=False).exclude(Exists(later))
    missed = list(rows.select_related("task").order_by("due_at", "pk")[:20])
    if not missed:
        return Contribution("Runbook", "")
    title = "A runbook task was missed" if len(missed) == 1 else f"{len(missed)} runbook tasks were missed"
    names = ", ".join(run.task.title for run in missed[:3])
    return Contribution("Runbook", "", cards=[Card(Tone.BAD, title, names, reverse("runbook"))])
