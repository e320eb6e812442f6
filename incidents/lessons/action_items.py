"""Action items: what is to be done so that it does not happen again, by whom, until when, and how one will know.

open → done (with evidence) → verified (by somebody other than the owner)
open → dropped (with a reason); done → open again, when it does not hold
"""

from datetime import date

from django.db import transaction
from django.db.models.functions import Now
from django.urls import reverse

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.audit.record import record
from controlplane.clock.database import database_time
from controlplane.operations.errors import Conflict, Invalid, Refused
from controlplane.operations.transitions import said
from controlplane.web.tones import Tone
from incidents import timeline
from incidents.lessons.telling import tell_person
from incidents.models import ActionItem, Incident
from incidents.timeline import Kind, NewEntry

State = ActionItem.State
TITLE = 300


def add(
    incident_id: int, actor: Actor, *, title: str, owner: Person | None, due_on: date | None, verification: str
) -> ActionItem:
    """Write one down. Raises Invalid when it says not what, by whom, until when, or how one will know."""
    title = said(title, "Say what is to be done.")
    verification = said(verification, "Say how one will know that it worked.")
    if len(title) > TITLE or len(verification) > TITLE:
        raise Invalid(f"Say it in at most {TITLE} characters.")
    if owner is None or not owner.is_active:
        raise Invalid("Say who will do it: somebody who has an account here.")
    if due_on is None or due_on < database_time().date():
        raise Invalid("Say until when: a day that is not over yet.")
    with transaction.atomic():
        incident = timeline.locked(incident_id)
        item = ActionItem.objects.create(
            incident=incident, title=title, verification=verification, owner=owner, owner_name=owner.title_name,
            due_on=due_on,
        )  # fmt: skip
        words = f"{actor.who.name} gave you an action item, due {due_on}: {title}"
        if owner != actor.person:
            tell_person(incident, owner, f"action-item-{item.pk}-given", words, _path(item))
        text = f"Action item for {owner.title_name} until {due_on}: {title}"
        _write(incident, actor, item, "added", text, Tone.WAIT)
    return item


def done(item_id: int, actor: Actor, evidence: str) -> ActionItem:
    """It is done, and this shows it. Raises Invalid without evidence, Conflict when it is not open."""
    evidence = said(evidence, "Say what shows that it is done: a link, a number, what was changed.")
    return _settle(item_id, actor, State.DONE, evidence, f"done: {evidence}")


def drop(item_id: int, actor: Actor, reason: str) -> ActionItem:
    """It will not be done. Raises Invalid without a reason, Conflict when it is not open."""
    reason = said(reason, "Say why it is dropped: the reason is kept.")
    return _settle(item_id, actor, State.DROPPED, reason, f"dropped: {reason}")


def _settle(item_id: int, actor: Actor, state: ActionItem.State, words: str, text: str) -> ActionItem:
    with transaction.atomic():
        incident, item = _locked(item_id)
        settled = ActionItem.objects.filter(pk=item.pk, state=State.OPEN).update(
            state=state, settled_at=Now(), settled_by_name=actor.who.name, words=words
        )
        if not settled:
            raise Conflict(f"It is {item.get_state_display()} already.")
        tone = Tone.OK if state == State.DONE else Tone.IDLE
        _write(incident, actor, item, str(state), f"Action item “{item.title}” {text}", tone, reason=words)
    item.refresh_from_db()
    return item


def verify(item_id: int, actor: Actor, words: str) -> ActionItem:
    """It works, as somebody other than its owner has seen. Raises Refused for the owner, Conflict when not done."""
    words = said(words, "Say what you saw.")
    with transaction.atomic():
        incident, item = _locked(item_id)
        if item.owner_id == actor.person.pk:
            raise Refused("It is yours; somebody else has to verify it.")
        verified = ActionItem.objects.filter(pk=item.pk, state=State.DONE).update(
            state=State.VERIFIED, verified_at=Now(), verified_by_name=actor.who.name, verified_words=words
        )
        if not verified:
            raise Conflict(f"It is {item.get_state_display()}: only what is done can be verified.")
        text = f"Action item “{item.title}” verified: {words}"
        _write(incident, actor, item, "verified", text, Tone.OK, reason=words)
    item.refresh_from_db()
    return item


def reopen(item_id: int, actor: Actor, reason: str) -> ActionItem:
    """What was said to be done does not hold. Raises Invalid without a reason, Conflict when it is not done."""
    reason = said(reason, "Say what is missing.")
    with transaction.atomic():
        incident, item = _locked(item_id)
        opened = ActionItem.objects.filter(pk=item.pk, state=State.DONE).update(
            state=State.OPEN, settled_at=None, settled_by_name=""
        )
        if not opened:
            raise Conflict(f"It is {item.get_state_display()}: only what is done can be opened again.")
        text = f"Action item “{item.title}” opened again: {reason}"
        _write(incident, actor, item, "reopened", text, Tone.WAIT, reason=reason)
    item.refresh_from_db()
    return item


def _locked(item_id: int) -> tuple[Incident, ActionItem]:
    """The incident's lock is that of its items too; the item is read under it."""
    incident = timeline.locked(ActionItem.objects.values_list("incident_id", flat=True).get(pk=item_id))
    return incident, ActionItem.objects.get(pk=item_id)


def _write(  # noqa: PLR0917 (one move, told whole)
    incident: Incident, actor: Actor, item: ActionItem, what: str, text: str, tone: Tone, reason: str = ""
) -> None:
    timeline.append(incident, actor.who, NewEntry(Kind.POST_MORTEM, text, tone, data={"action item": item.pk}))
    record(actor.who, f"action_item.{what}", f"action item {item.pk}: {item.title}", scopes=incident.environments,
           reason=reason, data={"owner": item.owner_name, "due": item.due_on})  # fmt: skip


def _path(item: ActionItem) -> str:
    return f"{reverse('postmortem', args=[item.incident_id])}#item-{item.pk}"
