"""Overdue action items: the owner hears of it on the first day, the team three days later, then the board is red.

What was sent is counted in the item, in the transaction that sends it; each message has its key. So any number of
clocks may call this as often as they like.
"""

from datetime import date, timedelta
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import transaction
from django.db.models import DateField, Q
from django.db.models.functions import Cast, JSONObject, Now
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.web.tones import Tone
from environments.cards import Card
from incidents import timeline
from incidents.access import visible_incidents
from incidents.late import Answers, Question
from incidents.lessons.telling import tell_person, tell_team
from incidents.models import ActionItem, Incident
from incidents.timeline import Kind, NewEntry

CLOCK = SYSTEM("clock")
# After the first overdue day.
TEAM_AFTER = timedelta(days=3)
OWNER, TEAM = 1, 2
AT_ONCE = 100


def remind() -> int:
    """Tell those who have not been told yet; returns how many items moved."""
    today = database_time().date()
    late = Q(due_on__lt=today, reminders__lt=OWNER) | Q(due_on__lt=today - TEAM_AFTER, reminders__lt=TEAM)
    rows = ActionItem.objects.filter(late, state=ActionItem.State.OPEN).order_by("due_on", "pk")
    return sum(_remind(*one, today) for one in rows.values_list("pk", "incident_id")[:AT_ONCE])


def _remind(item_id: int, incident_id: int, today: date) -> bool:
    with transaction.atomic():
        rows = Incident.objects.defer("search").select_for_update(skip_locked=True)
        incident = rows.filter(pk=incident_id).first()
        item = ActionItem.objects.select_related("owner").filter(pk=item_id, state=ActionItem.State.OPEN).first()
        if incident is None or item is None:
            return False
        level = TEAM if item.due_on < today - TEAM_AFTER else OWNER
        if item.due_on >= today or item.reminders >= level:
            return False  # another clock was first
        ActionItem.objects.filter(pk=item.pk).update(reminders=level, reminded_at=Now())
        text = _tell_owner(incident, item, today) if level == OWNER else _tell_all(incident, item, today)
        tone = Tone.WAIT if level == OWNER else Tone.BAD
        timeline.append(incident, CLOCK, NewEntry(Kind.POST_MORTEM, text, tone, data={"action item": item.pk}))
    return True


def _tell_owner(incident: Incident, item: ActionItem, today: date) -> str:
    days = _days((today - item.due_on).days)
    words = f"Your action item is {days} overdue: {item.title}"
    told = tell_person(incident, item.owner, _key(item, "owner"), words, _path(item))
    how = f"{item.owner_name} is reminded" if told else f"{item.owner_name} has no e-mail to be reminded by"
    return f"Action item “{item.title}” is {days} overdue: {how}"


def _tell_all(incident: Incident, item: ActionItem, today: date) -> str:
    """The team, and once more the owner."""
    days = _days((today - item.due_on).days)
    words = f"The action item of {item.owner_name} is {days} overdue: {item.title}"
    tell_person(incident, item.owner, _key(item, "owner-again"), words, _path(item))
    told = tell_team(incident, _key(item, "team"), words, _path(item))
    how = "the team is told" if told else "there is no channel to tell the team by"
    return f"Action item “{item.title}” is {days} overdue: {how}"


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"


def _key(item: ActionItem, to: str) -> str:
    """The same for every try of one reminder."""
    return f"action-item-{item.pk}-{item.due_on}-{to}"


def _path(item: ActionItem) -> str:
    return f"{reverse('postmortem', args=[item.incident_id])}#item-{item.pk}"


def _columns(actor: Actor) -> dict[str, Any]:
    overdue = ActionItem.objects.filter(
        state=ActionItem.State.OPEN, due_on__lt=Cast(Now(), DateField()),
        incident__in=visible_incidents(actor).values("pk"),
    )  # fmt: skip
    told = JSONObject(title="title", owner="owner_name", due_on="due_on")
    return {"overdue": ArraySubquery(overdue.order_by("due_on", "pk").values(told=told)[:100])}


def _cards(found: Answers) -> list[Card]:
    late = found["overdue"]
    if not late:
        return []
    first, due_on = late[0], date.fromisoformat(late[0]["due_on"])
    red = due_on < found["now"].date() - TEAM_AFTER
    title = "An action item is overdue" if len(late) == 1 else f"{len(late)} action items are overdue"
    text = f"{first['title']} · {first['owner']}, since {due_on:%-d %b}"
    return [Card(Tone.BAD if red else Tone.WAIT, title, text, reverse("action-items"))]


# Orange from the first overdue day, red once the team has been told.
OVERDUE = Question(_columns, _cards)
