"""The section `recovery` of the configuration file: plans for pairs of environments."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from backups.disaster.databases import DATABASES
from backups.disaster.services import set_clock
from backups.disaster.traffic import TRAFFIC
from backups.disaster.uploads import UPLOADS
from backups.models import RecoveryPlan, Storage
from backups.schedules import problem_with_schedule, problem_with_zone
from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.models import Environment, Service

MOST_MINUTES = 60 * 24 * 366
ENVIRONMENTS = ("primary", "standby")


@dataclass(frozen=True)
class DeclaredPlan:
    """fields: as the model has them, without slug, environments and storage."""

    slug: str
    primary: str
    standby: str
    kit_storage: str
    fields: dict[str, Any]


def read_plans(file: Table) -> list[DeclaredPlan]:
    """All plans, in the order of the file."""
    return [_plan(file, slug, table) for slug, table in file.tables("recovery")]


def _plan(file: Table, slug: str, table: Table) -> DeclaredPlan:
    known = known_environments(file)
    primary, standby = (table.choice(name, known) for name in ENVIRONMENTS)
    if primary and primary == standby:
        table.wrong("standby", "is the primary itself; name the environment that takes over.")
    fields = {
        "name": table.text("name", slug, limit=100),
        "rto_seconds": 60 * table.number("rto_minutes", 240, most=MOST_MINUTES),
        "rpo_seconds": 60 * table.number("rpo_minutes", 60, most=MOST_MINUTES),
        "database": _part(table, "database", DATABASES),
        "traffic": _part(table, "traffic", TRAFFIC),
        "uploads": _part(table, "uploads", UPLOADS) if "uploads" in table else {},
        "services": _services(file, table.below("services")),
        "configuration": table.raw("configuration"),
        "checks": [_check(one) for one in table.list_of_tables("checks")],
        "tell": table.texts("tell"),
        "approvals_required": table.number("approvals_required", 2, most=20),
        "drill_schedule": _schedule(table),
        "drill_time_zone": table.checked("drill_time_zone", problem_with_zone, "UTC"),
    }
    storage = table.text("kit_storage", "", limit=60)
    if storage and storage not in {*file.document.get("storages", {}), *Storage.objects.values_list("slug", flat=True)}:
        table.wrong("kit_storage", f"there is no storage {storage}; add [storages.{storage}] to this file.")
    table.end()
    return DeclaredPlan(slug, primary, standby, storage, fields)


def _schedule(table: Table) -> str:
    """ "" for drills that only people start."""
    return table.checked("drill_schedule", problem_with_schedule, "0 9 1 * *")


def _part(table: Table, name: str, known: Any) -> dict[str, Any]:
    """A part's settings, which its kind checks."""
    below = table.below(name)
    kind = below.choice("kind", known)
    given = below.rest()
    if kind:
        for key, words in sorted(known[kind].check_settings(given).items()):
            below.wrong(key, f"{words}.")
    return {"kind": kind, **given}


def _services(file: Table, table: Table) -> dict[str, int]:
    """How many instances of each; the guide starts three."""
    known: Collection[str] = {
        *file.document.get("services", {}),
        *Service.objects.values_list("slug", flat=True),
    }
    found = {}
    for name in table.rest():
        if name not in known:
            table.wrong(name, "names no service; declare it in this file.")
        found[name] = table.number(name, 3, most=1000)
    return found


def _check(table: Table) -> dict[str, str]:
    found = {"name": table.text("name", limit=100), "sql": table.text("sql", limit=2000)}
    table.end()
    return found


def plan_changes(declared: list[DeclaredPlan]) -> Iterator[Change]:
    """Plans that come or become different."""
    rows = RecoveryPlan.objects.select_related("primary", "standby", "kit_storage")
    there = {one.slug: one for one in rows}
    for one in declared:
        plan = there.get(one.slug)
        wanted = {"primary": one.primary, "standby": one.standby, "kit_storage": one.kit_storage, **one.fields}
        had: dict[str, Any] = {}
        if plan is not None:
            storage = plan.kit_storage.slug if plan.kit_storage else ""
            had = {"primary": plan.primary.slug, "standby": plan.standby.slug, "kit_storage": storage}
            had |= {name: getattr(plan, name) for name in one.fields}
        changes = difference(had, wanted if plan else {key: value for key, value in wanted.items() if value})
        if changes:
            yield Change(
                "~" if plan else "+", f"recovery.{one.slug}", lines_of(changes), partial(_declare, one),
                Trace("recovery_plan.declared", f"recovery plan {one.slug}", (one.primary, one.standby),
                      {"changes": changes}),
            )  # fmt: skip


def _declare(one: DeclaredPlan) -> None:
    sides = {name: Environment.objects.get(slug=getattr(one, name)) for name in ENVIRONMENTS}
    storage = Storage.objects.get(slug=one.kit_storage) if one.kit_storage else None
    plan, _ = RecoveryPlan.objects.update_or_create(
        slug=one.slug, defaults={**one.fields, **sides, "kit_storage": storage}
    )
    set_clock(plan)


def plans_left_alone(declared: list[DeclaredPlan]) -> list[str]:
    """Plans that exist and are not in the file."""
    known = {one.slug for one in declared}
    return [
        f"recovery plan {slug}" for slug in RecoveryPlan.objects.values_list("slug", flat=True) if slug not in known
    ]


PLANS = Section("recovery", read_plans, plan_changes, plans_left_alone)
