"""What the board says of the runbook: one card for what was missed, as long as it is not done."""

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, OuterRef
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.web.tones import Tone
from environments.cards import Card
from incidents.late import Answers, Question
from incidents.models import RunbookRun

State = RunbookRun.State


def _columns(actor: Actor) -> dict[str, Any]:
    if actor.scopes(Role.VIEWER) == []:
        return {}
    later = RunbookRun.objects.filter(task=OuterRef("task"), due_at__gt=OuterRef("due_at")).exclude(state=State.OPEN)
    rows = RunbookRun.objects.filter(state=State.MISSED, task__paused=False).exclude(Exists(later))
    return {"missed": ArraySubquery(rows.order_by("due_at", "pk").values("task__title")[:20])}


def _cards(found: Answers) -> list[Card]:
    missed = found["missed"]
    if not missed:
        return []
    title = "A runbook task was missed" if len(missed) == 1 else f"{len(missed)} runbook tasks were missed"
    return [Card(Tone.BAD, title, ", ".join(missed[:3]), reverse("runbook"))]


# Tasks whose last run was missed; its next run, once done, closes the matter.
MISSED = Question(_columns, _cards)
