"""The section `strategies` of the configuration file: how releases reach each environment, or a service in it.

[strategies.production]
strategy = "canary"
also = ["rolling"]

[strategies.production.canary]
share_percent = 10

[strategies.production.services.pitchey-backend]     instead of all that, for one service
strategy = "rolling"
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from deployments.models import StrategyTable
from deployments.strategies.settings import BLUE_GREEN, CANARY, CHECKS, LABELS, NAMES, ROLLING, problems_with
from deployments.strategies.situation import can_be_narrowed
from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.models import Environment, Placement, Service

# By environment, then by service ("" for all of them).
Declared = dict[str, dict[str, dict[str, Any]]]


def read_strategies(file: Table) -> Declared:
    """Everything below the key."""
    found: Declared = {}
    for slug, table in file.tables("strategies"):
        if slug not in known_environments(file):
            file.below("strategies").wrong(slug, f"there is no environment {slug}; declare it in this file.")
        found[slug] = {"": _table(table, slug, "")}
        for service, below in table.tables("services"):
            if service not in _services(file, slug):
                table.below("services").wrong(service, f"has no place in {slug}; add it there, or take this out.")
            found[slug][service] = _table(below, slug, service)
            below.end()
        table.end()
    return found


def _table(table: Table, environment: str, service: str) -> dict[str, Any]:
    strategy = table.choice("strategy", NAMES, ROLLING)
    also = table.texts("also")
    for wrong in sorted(set(also) - set(NAMES)):
        table.wrong("also", f"“{wrong}” is not known; write some of: {', '.join(NAMES)}.")
    kept: dict[str, Any] = {"strategy": strategy, **({"also": also} if also else {})}
    for key in CHECKS:
        given = table.raw(key)
        below = Table(table.key(key), given, table.problems, table.document)
        for name, words in sorted(problems_with(key, given).items()):
            below.wrong(name, f"{words}.")
        if given:
            kept[key] = given
    _fits(table, kept, environment, service)
    return kept


def _fits(table: Table, kept: Mapping[str, Any], environment: str, service: str) -> None:
    """Whether what is there can do it: the driver, and the names of the instances."""
    driver = _driver(table, environment)
    for name in {kept["strategy"], *kept.get("also", [])} & {CANARY, BLUE_GREEN}:
        key = "strategy" if name == kept["strategy"] else "also"
        if driver and (words := can_be_narrowed(driver, LABELS[name].capitalize())):
            table.wrong(key, words)
        if name == BLUE_GREEN and not (kept.get(name, {}).get("blue") and kept.get(name, {}).get("green")):
            table.wrong(key, f"needs a table {BLUE_GREEN} that names the instances of blue and of green.")
    places = _instances(table, environment, service)
    for strategy, key in ((CANARY, "instances"), (BLUE_GREEN, "blue"), (BLUE_GREEN, "green")):
        named = kept.get(strategy, {}).get(key, [])
        unknown = sorted({one for one in named if isinstance(one, str)} - places) if isinstance(named, list) else []
        if unknown:
            there = ", ".join(sorted(places)) or "none"
            below = Table(table.key(strategy), {}, table.problems, table.document)
            below.wrong(key, f"{', '.join(unknown)} is no instance of {environment}; there are {there}.")


# --- what the file or, where it says nothing, the database knows -----------------------------------------


def _environment(table: Table, slug: str) -> Mapping[str, Any]:
    return _mapping(_mapping(table.document.get("environments")).get(slug))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _driver(table: Table, slug: str) -> str:
    said = _environment(table, slug).get("driver")
    kept = Environment.objects.filter(slug=slug).values_list("driver", flat=True).first()
    return said if isinstance(said, str) else kept or ""


def _services(table: Table, slug: str) -> set[str]:
    kept = Service.objects.filter(placements__environment__slug=slug).values_list("slug", flat=True)
    return {*_mapping(_environment(table, slug).get("services")), *kept}


def _instances(table: Table, slug: str, service: str) -> set[str]:
    """Their names. service: "" for those of all of them."""
    placed = Placement.objects.filter(environment__slug=slug).select_related("service")
    by_service = {one.service.slug: one.instances for one in placed}
    said = _mapping(_environment(table, slug).get("services"))
    by_service |= {name: _mapping(one).get("instances", []) for name, one in said.items()}
    rows = [one for name, some in by_service.items() if service in ("", name) for one in some]
    return {str(one.get("name", "")) for one in rows if isinstance(one, Mapping)}


# --- the difference -----------------------------------------------------------------------------------


def strategy_changes(declared: Declared) -> Iterator[Change]:
    """Tables that come, become different, or go with a service's own table."""
    for slug, tables in declared.items():
        there = _there(slug)
        for service in dict.fromkeys((*tables, *there)):
            had, wanted = there.get(service), tables.get(service)
            if had != wanted:
                yield _change(slug, service, had, wanted)


def _there(slug: str) -> dict[str, dict[str, Any]]:
    rows = StrategyTable.objects.filter(environment__slug=slug).select_related("service")
    return {row.service.slug if row.service else "": row.settings for row in rows}


def _change(slug: str, service: str, had: dict[str, Any] | None, wanted: dict[str, Any] | None) -> Change:
    changes = difference(had or {}, wanted or {})
    target = f"strategy of {service} in {slug}" if service else f"strategy of {slug}"
    return Change(
        "+" if had is None else "~" if wanted is not None else "-",
        f"strategies.{slug}.services.{service}" if service else f"strategies.{slug}",
        lines_of(changes),
        partial(_make, slug, service, wanted),
        Trace("strategy.declared", target, (slug,), {"changes": changes}),
    )


def _make(slug: str, service: str, wanted: dict[str, Any] | None) -> None:
    environment = Environment.objects.get(slug=slug)
    owner = Service.objects.get(slug=service) if service else None
    if wanted is None:
        StrategyTable.objects.filter(environment=environment, service=owner).delete()
    else:
        StrategyTable.objects.update_or_create(
            environment=environment, service=owner, defaults={"settings": wanted}
        )  # fmt: skip


def left_alone(declared: Declared) -> list[str]:
    """Environments with a strategy that the file does not name."""
    others = StrategyTable.objects.exclude(environment__slug__in=declared).values_list("environment__slug", flat=True)
    return [f"strategy of {slug}" for slug in sorted(set(others))]


STRATEGIES = Section("strategies", read_strategies, strategy_changes, left_alone)
