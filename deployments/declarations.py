"""Sections of the configuration file: `policies`, `freezes` and `approver_groups`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from functools import partial
from typing import Any

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from deployments.gates.evidence import SEVERITIES
from deployments.gates.signatures import problem_with_key
from deployments.gates.windows import DAYS, LONGEST_MINUTES, problem_with_zone
from deployments.models import ApproverGroup, FreezeWindow, Policy, ReleaseEvidence
from deployments.policies import problem_with_freeze
from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.models import Environment

MOST_MINUTES = 60 * 24 * 90
INCIDENTS = ("P1", "P2", "P3", "P4")


@dataclass(frozen=True)
class Declared:
    """One row of a section. fields: as the model has them."""

    slug: str
    fields: dict[str, Any]


# --- policies -----------------------------------------------------------------------------------------


def read_policies(file: Table) -> list[Declared]:
    """The rules, by the environments' slugs."""
    known = known_environments(file)
    found = []
    for slug, table in file.tables("policies"):
        if slug not in known:
            file.wrong(f"policies.{slug}", f"there is no environment {slug}; declare it in this file.")
        found.append(Declared(slug, _policy(file, table)))
    return found


def _policy(file: Table, table: Table) -> dict[str, Any]:
    fields = {
        "soak_minutes": table.number("soak_minutes", 0, most=MOST_MINUTES),
        "evidence": _some_of(table, "evidence", ReleaseEvidence.Kind.values),
        "findings": _numbers(table, "findings", SEVERITIES),
        "keys": _keys(table),
        "incidents": _some_of(table, "incidents", INCIDENTS),
        "backup_minutes": table.number("backup_minutes", 0, most=MOST_MINUTES),
        "backup": table.choice("backup", Policy.Backup.values, Policy.Backup.REFUSE),
        "hours": _hours(table) if "hours" in table else {},
        "checklist": _checklist(table),
        "approvers": _numbers(table, "approvers", _groups(file)),
        "way_back": table.choice("way_back", ("possible",), ""),
    }
    table.end()
    return fields


def _groups(file: Table) -> tuple[str, ...]:
    declared = file.document.get("approver_groups", {})
    return (*declared, *ApproverGroup.objects.values_list("slug", flat=True))


def _some_of(table: Table, name: str, known: Any) -> list[str]:
    found = table.texts(name)
    for one in found:
        if one not in known:
            table.wrong(name, f"“{one}” is not known; write some of: {', '.join(known)}.")
    return sorted(set(found), key=list(known).index) if set(found) <= set(known) else []


def _numbers(table: Table, name: str, known: Any) -> dict[str, int]:
    below = table.below(name)
    found = {}
    for key in below.rest():
        if key not in known:
            below.wrong(key, f"is not known; write some of: {', '.join(known) or 'none is declared'}.")
        found[key] = below.number(key, 0, most=1000)
    return found


def _keys(table: Table) -> list[str]:
    keys = table.texts("keys")
    for number, key in enumerate(keys, start=1):
        if words := problem_with_key(key):
            table.wrong("keys", f"number {number}: {words}.")
    return [key.strip() for key in keys]


def _hours(table: Table) -> dict[str, Any]:
    below = table.below("hours")
    days = _some_of(below, "days", DAYS)
    zone = below.checked("zone", problem_with_zone, "UTC")
    times = {name: below.checked(name, _problem_with_time) for name in ("from", "to")}
    if not days:
        below.wrong("days", 'has to name some days, as in ["mon", "tue"].')
    if times["from"] >= times["to"]:
        below.wrong("to", "has to be later than from.")
    below.end()
    return {"zone": zone, "days": days, **times}


def _problem_with_time(text: str) -> str:
    try:
        time.fromisoformat(text)
    except ValueError:
        return "is no time of day; write it as in 09:00"
    return "" if len(text) == len("09:00") else "is no time of day; write it as in 09:00"


def _checklist(table: Table) -> list[str]:
    items = table.texts("checklist")
    if any(not item.strip() or len(item) > 200 for item in items) or len(items) != len(set(items)) or len(items) > 30:
        table.wrong("checklist", "has to be at most 30 different texts of 1 to 200 characters.")
    return items


def policy_changes(declared: list[Declared]) -> Iterator[Change]:
    """Rules that come or become different."""
    there = {policy.environment.slug: policy for policy in Policy.objects.select_related("environment")}
    for one in declared:
        had = {name: getattr(there.get(one.slug, Policy()), name) for name in one.fields}
        if changes := difference(had, one.fields):
            yield Change(
                "~" if one.slug in there else "+", f"policies.{one.slug}", lines_of(changes),
                partial(_declare_policy, one),
                Trace("policy.declared", f"environment {one.slug}", (one.slug,), {"changes": changes}),
            )  # fmt: skip


def _declare_policy(one: Declared) -> None:
    environment = Environment.objects.get(slug=one.slug)
    Policy.objects.update_or_create(environment=environment, defaults=one.fields)


# --- freezes ------------------------------------------------------------------------------------------


def read_freezes(file: Table) -> list[Declared]:
    """Freezes, each with the environments that it closes."""
    known = known_environments(file)
    found = []
    for slug, table in file.tables("freezes"):
        environments = _some_of(table, "environments", sorted(known))
        fields: dict[str, Any] = {
            "reason": table.text("reason"),
            "zone": table.checked("zone", problem_with_zone, "UTC"),
            "starts": table.text("starts", limit=16),
            "minutes": table.number("minutes", 0, most=LONGEST_MINUTES),
            "rule": table.text("rule", ""),
        }
        zone = fields["zone"] or "UTC"
        for key, words in problem_with_freeze(zone, fields["starts"], fields["minutes"], fields["rule"]).items():
            table.wrong(key, f"{words}.")
        table.end()
        found += [Declared(f"{environment}/{slug}", fields) for environment in environments]
    return found


def freeze_changes(declared: list[Declared]) -> Iterator[Change]:
    """Freezes that come or become different. One that somebody took away on a page comes again by the file."""
    rows = FreezeWindow.objects.filter(ended_at=None).exclude(slug="").select_related("environment")
    there = {f"{row.environment.slug}/{row.slug}": row for row in rows}
    for one in declared:
        row = there.get(one.slug)
        had = {name: getattr(row, name) for name in one.fields} if row else {}
        if changes := difference(had, one.fields):
            environment = one.slug.partition("/")[0]
            yield Change(
                "~" if row else "+", f"freezes.{one.slug}", lines_of(changes), partial(_declare_freeze, one),
                Trace("environment.frozen", f"environment {environment}", (environment,), {"changes": changes}),
            )  # fmt: skip


def _declare_freeze(one: Declared) -> None:
    environment, _, slug = one.slug.partition("/")
    FreezeWindow.objects.update_or_create(
        environment=Environment.objects.get(slug=environment), slug=slug, ended_at=None,
        defaults={**one.fields, "author_name": SYSTEM("the configuration file").name},
    )  # fmt: skip


def freezes_left_alone(declared: list[Declared]) -> list[str]:
    """Freezes of a file that are not in this one, and those that people made."""
    known = {one.slug for one in declared}
    rows = FreezeWindow.objects.filter(ended_at=None).select_related("environment")
    return [f"freeze of {row.environment.slug}: {row.reason}" for row in rows
            if f"{row.environment.slug}/{row.slug}" not in known]  # fmt: skip


# --- groups -------------------------------------------------------------------------------------------


def read_groups(file: Table) -> list[Declared]:
    """Groups of people who approve."""
    known = {*file.document.get("people", {}), *Person.objects.values_list("username", flat=True)}
    found = []
    for slug, table in file.tables("approver_groups"):
        people = table.texts("people")
        for person in people:
            if person not in known:
                table.wrong("people", f"there is no {person}; declare them in this file.")
        found.append(Declared(slug, {"name": table.text("name", slug, limit=100), "people": people}))
        table.end()
    return found


def group_changes(declared: list[Declared]) -> Iterator[Change]:
    """Groups that come or become different."""
    there = {group.slug: group for group in ApproverGroup.objects.all()}
    for one in declared:
        had = {name: getattr(there[one.slug], name) for name in one.fields} if one.slug in there else {}
        if changes := difference(had, one.fields):
            yield Change(
                "~" if one.slug in there else "+", f"approver_groups.{one.slug}", lines_of(changes),
                partial(_declare_group, one),
                Trace("approver_group.declared", f"approver group {one.slug}", (), {"changes": changes}),
            )  # fmt: skip


def _declare_group(one: Declared) -> None:
    ApproverGroup.objects.update_or_create(slug=one.slug, defaults=one.fields)


GROUPS = Section("approver_groups", read_groups, group_changes)
POLICIES = Section("policies", read_policies, policy_changes)
FREEZES = Section("freezes", read_freezes, freeze_changes, freezes_left_alone)
