"""The sections `runbook` and `contacts` of the configuration file: the guide's lists, and whom one may call."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator, validate_email
from django.db.models.functions import Now

from backups.schedules import problem_with_schedule, problem_with_zone
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from incidents.models import Contact, RunbookRun, RunbookTask
from incidents.runbook.checks import CHECKS
from incidents.runbook.duty import SCHEDULE

# What says when it is due: with another one, runs that are still open for later are planned anew.
TIMES = ("cadence", "due", "time_zone")


@dataclass(frozen=True)
class Declared:
    """One task or contact. fields: as its model has them, without the slug."""

    slug: str
    fields: dict[str, Any]


# --- The runbook --------------------------------------------------------------------------------------


def read_tasks(file: Table) -> list[Declared]:
    """All tasks, in the order of the file."""
    return [_task(slug, table, number) for number, (slug, table) in enumerate(file.tables("runbook"))]


def _task(slug: str, table: Table, position: int) -> Declared:
    fields = {
        "title": table.text("title", limit=200),
        "cadence": table.choice("cadence", RunbookTask.Cadence.values),
        "due": table.checked("due", problem_with_schedule),
        "time_zone": table.checked("time_zone", problem_with_zone, "UTC"),
        "owner": table.checked("owner", _problem_with_owner, ""),
        "how": table.text("how", "", limit=2000),
        "check_key": table.choice("check", CHECKS, ""),
        "position": position,
    }
    table.end()
    return Declared(slug, fields)


def _problem_with_owner(owner: str) -> str:
    name = owner.removeprefix(SCHEDULE)
    if name and ":" not in name and len(owner) <= 150:
        return ""
    return 'names nobody; write a username, or "schedule:primary" for whoever is on call'


def task_changes(declared: list[Declared]) -> Iterator[Change]:
    """Tasks that come or become different."""
    there = {one.slug: one for one in RunbookTask.objects.all()}
    for one in declared:
        changes = _difference(one, there.get(one.slug))
        if changes:
            yield Change(
                "~" if one.slug in there else "+", f"runbook.{one.slug}", lines_of(changes),
                partial(_declare_task, one, changes),
                Trace("runbook.declared", f"runbook task {one.slug}", data={"changes": changes}),
            )  # fmt: skip


def _declare_task(one: Declared, changes: dict[str, list[Any]]) -> None:
    task, is_new = RunbookTask.objects.update_or_create(slug=one.slug, defaults=one.fields)
    if not is_new and changes.keys() & set(TIMES):
        RunbookTask.objects.filter(pk=task.pk).update(since=Now())
        RunbookRun.objects.filter(task=task, state=RunbookRun.State.OPEN, due_at__gt=Now()).delete()


def tasks_left_alone(declared: list[Declared]) -> list[str]:
    """Tasks that exist and are not in the file."""
    known = [one.slug for one in declared]
    others = RunbookTask.objects.exclude(slug__in=known)
    return [f"runbook task {slug}" for slug in others.values_list("slug", flat=True)]


# --- Contacts -----------------------------------------------------------------------------------------


def read_contacts(file: Table) -> list[Declared]:
    """All contacts, in the order of the file."""
    return [_contact(slug, table, number) for number, (slug, table) in enumerate(file.tables("contacts"))]


def _contact(slug: str, table: Table, position: int) -> Declared:
    fields = {
        "name": table.text("name", limit=100),
        "email": table.checked("email", _problem_with_email, ""),
        "phone": table.text("phone", "", limit=60),
        "url": table.checked("url", _problem_with_url, ""),
        "how": table.text("how", "", limit=300),
        "position": position,
    }
    table.end()
    if not any(fields[name] for name in ("email", "phone", "url", "how")):
        table.wrong("how", "is missing; write an email, a phone, a url, or how one reaches them.")
    return Declared(slug, fields)


def _problem_with_email(value: str) -> str:
    try:
        validate_email(value)
    except ValidationError:
        return "is no e-mail address"
    return ""


def _problem_with_url(value: str) -> str:
    try:
        URLValidator(schemes=["http", "https"])(value)
    except ValidationError:
        return "is no address of the web"
    return ""


def contact_changes(declared: list[Declared]) -> Iterator[Change]:
    """Contacts that come or become different."""
    there = {one.slug: one for one in Contact.objects.all()}
    for one in declared:
        changes = _difference(one, there.get(one.slug))
        if changes:
            yield Change(
                "~" if one.slug in there else "+", f"contacts.{one.slug}", lines_of(changes),
                partial(Contact.objects.update_or_create, slug=one.slug, defaults=one.fields),
                Trace("contact.declared", f"contact {one.slug}", data={"changes": changes}),
            )  # fmt: skip


def contacts_left_alone(declared: list[Declared]) -> list[str]:
    """Contacts that exist and are not in the file."""
    known = [one.slug for one in declared]
    return [f"contact {slug}" for slug in Contact.objects.exclude(slug__in=known).values_list("slug", flat=True)]


def _difference(one: Declared, there: RunbookTask | Contact | None) -> dict[str, list[Any]]:
    """What differs; of a new one, what is said of it."""
    if there is None:
        return difference({}, {name: value for name, value in one.fields.items() if value not in ("", 0, False)})
    return difference({name: getattr(there, name) for name in one.fields}, one.fields)


RUNBOOK = Section("runbook", read_tasks, task_changes, tasks_left_alone)
CONTACTS = Section("contacts", read_contacts, contact_changes, contacts_left_alone)
