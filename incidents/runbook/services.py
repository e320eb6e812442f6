"""What people do with the runbook and the contacts: one function each, one transaction each, audited."""

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


def save_contact(actor: Actor, contact: Contact) -> None:
    """Add it or change it. Raises Conflict when its short name is taken."""
    with transaction.atomic():
        before = Contact.objects.filter(pk=contact.pk).values(*FIELDS).first() if contact.pk else None
        if Contact.objects.filter(slug=contact.slug).exclude(pk=contact.pk).exists():
            raise Conflict(f"There is a contact {contact.slug} already.")
        after = {name: getattr(contact, name) for name in FIELDS}
        if before == after:
            raise Invalid("Nothing is different.")
        contact.save()
        transaction.on_commit(lambda: ring("news", "runbook"))
        data: dict[str, Any] = {"before": before or {}, "after": after}
        record(actor.who, "contact.changed" if before else "contact.added", f"contact {contact.slug}", data=data)


def remove_contact(actor: Actor, contact: Contact) -> None:
    """Nobody is to call them any more."""
    with transaction.atomic():
        before = {name: getattr(contact, name) for name in FIELDS}
        Contact.objects.filter(pk=contact.pk).delete()
        transaction.on_commit(lambda: ring("news", "runbook"))
        record(actor.who, "contact.removed", f"contact {contact.slug}", data={"before": before})


FIELDS = ("name", "position", "email", "phone", "url", "how")
