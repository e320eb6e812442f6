"""What people do with the runbook and the contacts: one function each, one transaction each, audited."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.audit.record import record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict, Invalid
from controlplane.operations.transitions import said
from incidents.models import Contact, RunbookRun, RunbookTask

State = RunbookRun.State


def tick(actor: Actor, task: RunbookTask, run_id: int, evidence: str) -> RunbookRun:
    """It was done, and this shows it. What was missed is then done late.

    Raises Invalid without evidence, Conflict when it is done already or not of this task.
    """
    evidence = said(evidence, "Say what you saw or did: that is the evidence.")
    with transaction.atomic():
        rows = RunbookRun.objects.filter(pk=run_id, task=task)
        kept = {"done_at": Now(), "done_by_name": actor.who.name, "evidence": evidence, "evidence_url": ""}
        ticked = rows.filter(state=State.OPEN, due_at__gt=Now()).update(state=State.DONE, **kept)
        # Too late is late, also when no clock has marked it as missed yet.
        ticked = ticked or rows.filter(state__in=[State.OPEN, State.MISSED]).update(state=State.LATE, **kept)
        if not ticked:
            run = rows.first()
            raise Conflict(f"{run.done_by_name} has done it already." if run else "There is no such run of this task.")
        run = rows.get()
        transaction.on_commit(lambda: ring("news", "runbook"))
        record(actor.who, "runbook.ticked", f"{task}, due {run.due_at:%Y-%m-%d %H:%M} UTC", reason=evidence,
               data={"state": run.state})  # fmt: skip
    return run


def pause(actor: Actor, task: RunbookTask, reason: str, *, paused: bool) -> None:
    """Do not ask for it for a while, or ask again. Raises Invalid without a reason, Conflict when it is so already."""
    reason = said(reason, "Say why: the reason is kept.")
    with transaction.atomic():
        # From now on: what fell due while it was paused was not missed.
        changed = RunbookTask.objects.filter(pk=task.pk, paused=not paused).update(paused=paused, since=Now())
        if not changed:
            raise Conflict("It is paused already." if paused else "It is not paused.")
        if paused:
            RunbookRun.objects.filter(task=task, state=State.OPEN).delete()
        transaction.on_commit(lambda: ring("news", "runbook"))
        record(actor.who, "runbook.paused" if paused else "runbook.resumed", f"runbook task {task.slug}", reason=reason)


def add_contact(actor: Actor, contact: Contact, reason: str = "") -> Contact:
    """One more. Raises Conflict when its short name is taken."""
    with transaction.atomic():
        after = _values(contact)
        made, is_new = Contact.objects.get_or_create(slug=contact.slug, defaults=after)
        if not is_new:
            raise Conflict(f"There is a contact {contact.slug} already.")
        _contact_recorded(actor, "contact.added", made, reason, {"before": {}, "after": after})
    return made


def change_contact(actor: Actor, contact: Contact, reason: str = "", *, shown: str = "") -> None:
    """Keep what is different. shown: the digest of what somebody saw, if they say it. Raises Conflict, Invalid."""
    with transaction.atomic():
        before = Contact.objects.select_for_update().filter(pk=contact.pk).first()
        if before is None or (shown and digest_of(before) != shown):
            raise Conflict("Somebody has changed this contact since you opened it: look at it again, then decide.")
        after = _values(contact)
        if _values(before) == after:
            raise Invalid("Nothing is different.")
        contact.save()
        _contact_recorded(actor, "contact.changed", contact, reason, {"before": _values(before), "after": after})


def remove_contact(actor: Actor, contact: Contact, reason: str = "") -> None:
    """Nobody is to call them any more. Raises Conflict when somebody was first."""
    with transaction.atomic():
        if not Contact.objects.filter(pk=contact.pk).delete()[0]:
            raise Conflict("It is not there any more: somebody was first.")
        _contact_recorded(actor, "contact.removed", contact, reason, {"before": _values(contact)})


def digest_of(contact: Contact) -> str:
    """What somebody saw of it before they changed it."""
    return hashlib.sha256(json.dumps(_values(contact), sort_keys=True).encode()).hexdigest()


def _values(contact: Contact) -> dict[str, Any]:
    return {name: getattr(contact, name) for name in FIELDS}


def _contact_recorded(actor: Actor, action: str, contact: Contact, reason: str, data: Mapping[str, Any]) -> None:
    transaction.on_commit(lambda: ring("news", "runbook"))
    record(actor.who, action, f"contact {contact.slug}", reason=reason, data=data)


FIELDS = ("name", "position", "email", "phone", "url", "how")
