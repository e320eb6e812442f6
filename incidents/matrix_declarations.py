"""The sections `escalation` and `reach` of the file: who is paged after how long, and at which address."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from controlplane.accounts.models import Person
from controlplane.audit.record import SYSTEM
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from incidents import matrix_reach
from incidents.matrix_services import (
    LEVELS_AT_MOST,
    LONGEST_SECONDS,
    LevelPlan,
    PolicyPlan,
    plan_of,
    problem_with_severities,
    problem_with_times,
    write,
)
from incidents.models import ChannelKind, ContactMethod, EscalationPolicy, Schedule, Severity
from incidents.oncall.declarations import known_people

SCHEDULE = "schedule:"
LONGEST_MINUTES = LONGEST_SECONDS // 60
WHO = SYSTEM("manage.py")
REASON = "manage.py apply"


# --- The matrix ---------------------------------------------------------------------------------------


def read_policies(file: Table) -> dict[str, PolicyPlan]:
    """The policies by slug."""
    schedules = {*file.document.get("schedules", {}), *Schedule.objects.values_list("slug", flat=True)}
    people = known_people(file)
    found: dict[str, PolicyPlan] = {}
    for slug, table in file.tables("escalation"):
        severities = table.texts("severities")
        for one in severities:
            if one not in Severity.values:
                table.wrong("severities", f"“{one}” is none; write: {', '.join(Severity.values)}.")
        for other, plan in found.items():
            if taken := sorted(set(plan.severities) & set(severities)):
                table.wrong("severities", f"{' and '.join(taken)} is escalated by escalation.{other} already.")
        levels = tuple(_level(one, schedules, people) for one in table.list_of_tables("levels"))
        if len(levels) > LEVELS_AT_MOST:
            table.wrong("levels", f"has {len(levels)} levels; at most {LEVELS_AT_MOST} are understood.")
        if words := problem_with_times(levels):
            table.wrong("levels", f"{words}.")
        found[slug] = PolicyPlan(
            table.text("name", slug, limit=100), tuple(sorted(severities)), table.number("repeats", 0, most=20),
            60 * (table.number("repeat_after_minutes", 30, most=LONGEST_MINUTES) or 1), levels,
        )  # fmt: skip
        table.end()
    _check_others(file, found)
    return found


def _check_others(file: Table, found: Mapping[str, PolicyPlan]) -> None:
    """A severity that a policy has which is not in the file stays there."""
    for slug, plan in found.items():
        words = problem_with_severities(slug, plan.severities, besides=found)
        if words:
            file.below("escalation").below(slug).wrong("severities", f"{words}.")


def _level(table: Table, schedules: set[str], people: Mapping[str, str]) -> LevelPlan:
    targets = []
    for word in table.texts("to"):
        slug = word.removeprefix(SCHEDULE)
        if word.startswith(SCHEDULE):
            targets.append(("schedule", slug))
            if slug not in schedules:
                table.wrong("to", f"there is no schedule {slug}; declare [schedules.{slug}] in this file.")
        else:
            targets.append(("person", people.get(word.lower(), word)))
            if word.lower() not in people:
                table.wrong("to", f"there is nobody called {word}; for a schedule write {SCHEDULE}….")
    channels = table.texts("by")
    for kind in channels:
        if kind not in ChannelKind.values:
            table.wrong("by", f"“{kind}” is no channel; write: {', '.join(ChannelKind.values)}.")
    for name, given in (("to", targets), ("by", channels)):
        if not given:
            table.wrong(name, "is missing: nobody would be paged.")
    found = LevelPlan(
        table.text("role", limit=100), 60 * table.number("after_minutes", 0, most=LONGEST_MINUTES),
        tuple(dict.fromkeys(targets)), tuple(dict.fromkeys(channels)),
    )  # fmt: skip
    table.end()
    return found


def _words(plan: PolicyPlan | None) -> dict[str, Any]:
    """A policy as the difference shows it."""
    if plan is None:
        return {}
    return {
        "name": plan.name,
        "severities": sorted(plan.severities),
        "repeats": plan.repeats,
        "repeat_after_seconds": plan.repeat_after_seconds,
        "levels": [
            {
                "role": level.role,
                "after_seconds": level.after_seconds,
                "to": [f"{SCHEDULE}{name}" if kind == "schedule" else name for kind, name in level.targets],
                "by": list(level.channels),
            }
            for level in plan.levels
        ],
    }


def policy_changes(declared: Mapping[str, PolicyPlan]) -> Iterator[Change]:
    """Policies that come or become different."""
    there = {one.slug: plan_of(one) for one in EscalationPolicy.objects.prefetch_related("levels")}
    for slug, plan in declared.items():
        found = difference(_words(there.get(slug)), _words(plan))
        if found:
            trace = Trace("escalation.declared", f"escalation policy {slug}", data={"changes": found})
            sign = "~" if slug in there else "+"
            yield Change(sign, f"escalation.{slug}", lines_of(found), partial(write, slug, plan), trace)


def policies_left_alone(declared: Mapping[str, PolicyPlan]) -> list[str]:
    """Policies that exist and are not in the file."""
    rows = EscalationPolicy.objects.exclude(slug__in=declared).values_list("slug", flat=True)
    return [f"escalation policy {slug}" for slug in rows]


# --- How people are reached ---------------------------------------------------------------------------


def read_reach(file: Table) -> dict[str, dict[str, str]]:
    """Addresses by username and kind."""
    people = known_people(file)
    found = {}
    for name, table in file.tables("reach", slugs=False):
        if name.lower() not in people:
            file.below("reach").wrong(name, f"there is nobody called {name}; declare [people.{name}] in this file.")
        addresses = {}
        for kind in matrix_reach.KINDS:
            text = matrix_reach.cleaned(kind, table.text(kind.value, "", limit=matrix_reach.LONGEST))
            if text and (words := matrix_reach.problem_with_address(kind, text)):
                table.wrong(kind.value, f"“{text}” {words}.")
            if text:
                addresses[kind.value] = text
        table.end()
        found[people.get(name.lower(), name)] = addresses
    return found


def reach_changes(declared: Mapping[str, dict[str, str]]) -> Iterator[Change]:
    """Addresses that come or become different; kinds that the file does not name are left alone."""
    there: dict[str, dict[str, str]] = {}
    for name, kind, address in ContactMethod.objects.values_list("person__username", "kind", "address"):
        there.setdefault(name, {})[kind] = address
    for name, wanted in declared.items():
        had = {kind: address for kind, address in there.get(name, {}).items() if kind in wanted}
        if had != wanted:
            lines = lines_of(_hidden(difference(had, wanted)))
            yield Change("~" if had else "+", f"reach.{name}", lines, partial(_reach, name, wanted))


def _hidden(changes: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {kind: [matrix_reach.masked(kind, one) for one in both] for kind, both in changes.items()}


def _reach(name: str, wanted: Mapping[str, str]) -> None:
    matrix_reach.write(WHO, Person.objects.get(username__iexact=name), wanted, REASON)


POLICIES = Section("escalation", read_policies, policy_changes, policies_left_alone)
REACH = Section("reach", read_reach, reach_changes)
