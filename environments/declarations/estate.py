"""The sections `services` and `environments`: what exists, where each service is placed, and its configuration."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from controlplane.operations.errors import StepError
from environments.addresses import problem_with
from environments.declarations.reading import SLUG, Problem, Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.drivers import DRIVERS
from environments.drivers.base import Declarable
from environments.models import ConfigEntry, Environment, Placement, ProbeSchedule, Service
from environments.secrets import NAMED
from environments.secrets import problem_with as problem_with_secret

AUTO = "auto"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HEALTH_PATH = "/health"


@dataclass(frozen=True)
class DeclaredPlacement:
    """A service in an environment. instances: names and addresses; an address may be "auto"."""

    service: str
    instances: list[dict[str, str]]
    health_path: str
    driver_settings: dict[str, Any]


@dataclass(frozen=True)
class DeclaredEnvironment:
    """fields: as the model has them. configuration: by variable, its value and its secret reference."""

    slug: str
    fields: dict[str, Any]
    configuration: dict[str, tuple[str, str]]
    placements: list[DeclaredPlacement]


def known_environments(table: Table) -> set[str]:
    """The slugs of those in the file and of those that exist."""
    return {*table.document.get("environments", {}), *Environment.objects.values_list("slug", flat=True)}


def _declarable(driver: str) -> Declarable | None:
    known: object = DRIVERS.get(driver)
    return known if isinstance(known, Declarable) else None


# --- reading ------------------------------------------------------------------------------------------


def read_services(file: Table) -> dict[str, str]:
    """The names of the services, by slug."""
    found = {}
    for slug, table in file.tables("services"):
        found[slug] = table.text("name", slug, limit=100)
        table.end()
    return found


def read_environments(file: Table) -> list[DeclaredEnvironment]:
    """All environments, in the order of the file."""
    found = [_environment(slug, table, place) for place, (slug, table) in enumerate(file.tables("environments"))]
    _addresses_once(file, found)
    return found


def _environment(slug: str, table: Table, position: int) -> DeclaredEnvironment:
    driver = table.choice("driver", DRIVERS)
    fields = {
        "name": table.text("name", slug.title(), limit=100),
        "purpose": table.text("purpose", "", limit=200),
        "url": table.checked("url", problem_with, ""),
        "position": position,
        "driver": driver,
        "driver_settings": _settings(table, driver),
        "approvals_required": table.number("approvals_required", 0, most=20),
        "promoted_from": _promoted_from(slug, table),
    }
    configuration = _configuration(table)
    placements = [_placement(slug, service, below, driver) for service, below in table.tables("services")]
    _names_once(table, placements)
    table.end()
    return DeclaredEnvironment(slug, fields, configuration, placements)


def _settings(table: Table, driver: str) -> dict[str, Any]:
    given = table.raw("settings")
    if known := _declarable(driver):
        below = Table(table.key("settings"), given, table.problems, table.document)
        for key, words in sorted(known.check_settings(given).items()):
            below.wrong(key, f"{words}.")
    return given


def _promoted_from(slug: str, table: Table) -> str:
    before = table.text("promoted_from", "", limit=60)
    if before == slug:
        table.wrong("promoted_from", "is the environment itself; name the one that releases run in before.")
    elif before and before not in known_environments(table):
        table.wrong("promoted_from", f"there is no environment {before}; declare it in this file, or take this out.")
    return before


def _configuration(table: Table) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    below = table.below("configuration")
    for key, value in below.values.items():
        if not VARIABLE.fullmatch(key) or len(key) > 100:
            below.wrong(key, "is no name of an environment variable: use letters, digits and _.")
        elif isinstance(value, dict):
            secret = below.below(key)
            found[key] = ("", secret.checked("secret", problem_with_secret))
            secret.end()
        elif isinstance(value, str):
            found[key] = (value, "")
        else:
            below.wrong(key, 'has to be text in quotes, or { secret = "file:…" }.')
    for key, (value, _) in found.items():
        for name in sorted(set(NAMED.findall(value)) - found.keys()):
            below.wrong(key, f"names ${{{name}}}, which is not in this configuration; add it.")
    return found


def _placement(environment: str, service: str, table: Table, driver: str) -> DeclaredPlacement:
    if service not in table.document.get("services", {}) and not Service.objects.filter(slug=service).exists():
        words = f"there is no service {service}; add [services.{service}] to this file."
        table.problems.append(Problem(table.path, words))
    health_path = table.text("health_path", HEALTH_PATH, limit=200)
    if not health_path.startswith("/"):
        table.wrong("health_path", "has to begin with a slash, as in /health.")
    instances = [_instance(environment, one, driver) for one in table.list_of_tables("instances")]
    settings = _settings(table, driver)
    table.end()
    return DeclaredPlacement(service, instances, health_path, settings)


def _instance(environment: str, table: Table, driver: str) -> dict[str, str]:
    name = table.text("name", limit=100)
    if name and not SLUG.fullmatch(name):
        table.wrong("name", f"“{name}” is no name for an instance: use small letters, digits and single hyphens.")
    address = table.text("address", "")
    if address == AUTO:
        _try_address(environment, name, table, driver)
    elif address and (words := problem_with(address)):
        table.wrong("address", f"“{address}” {words}.")
    table.end()
    return {"name": name, "address": address.rstrip("/")}


def _try_address(environment: str, name: str, table: Table, driver: str) -> None:
    """A driver gives the same address each time, so that asking here changes nothing later."""
    known = _declarable(driver)
    try:
        if known and SLUG.fullmatch(name):
            known.address_for(environment, name)
    except StepError as error:
        table.wrong("address", str(error))


def _names_once(table: Table, placements: list[DeclaredPlacement]) -> None:
    names = [one["name"] for placement in placements for one in placement.instances]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        table.wrong("services", f"the instance {name} is there more than once; give each a name of its own.")


def _addresses_once(file: Table, environments: list[DeclaredEnvironment]) -> None:
    """Or one would be taken for healthy, or still in rotation, because the other answers."""
    whose: dict[str, str] = {}  # by address, the instance that has it
    for environment in environments:
        driver = _declarable(environment.fields["driver"])
        if driver is None or not driver.addressed:
            continue
        for placement in environment.placements:
            for one in placement.instances:
                name, address = f"{one['name']} of {environment.slug}", one["address"]
                if address and address != AUTO and (other := whose.setdefault(address, name)) != name:
                    path = f"environments.{environment.slug}.services.{placement.service}.instances"
                    words = f"{name} has the address of {other}, {address}; give each an address of its own."
                    file.problems.append(Problem(path, words))


# --- the difference -----------------------------------------------------------------------------------


def service_changes(declared: dict[str, str]) -> Iterator[Change]:
    """Services that come or are renamed."""
    there = dict(Service.objects.values_list("slug", "name"))
    for slug, name in declared.items():
        changes = difference({"name": there.get(slug, "")}, {"name": name})
        if changes:
            yield Change(
                "~" if slug in there else "+",
                f"services.{slug}",
                lines_of(changes),
                partial(Service.objects.update_or_create, slug=slug, defaults={"name": name}),
                Trace("service.declared", f"service {slug}", data={"changes": changes}),
            )


def environment_changes(declared: list[DeclaredEnvironment]) -> Iterator[Change]:
    """Environments, then what is in each: its configuration and its services."""
    there = {one.slug: one for one in Environment.objects.all()}
    for one in declared:
        environment = there.get(one.slug)
        had = {key: getattr(environment, key) for key in one.fields} if environment else {}
        # What a new environment does not say is not worth a line.
        wanted = {key: value for key, value in one.fields.items() if environment or value not in ("", 0, {})}
        if environment is None or difference(had, wanted):
            yield _environment_change(one, had, wanted)
        yield from _configuration_changes(one)
        for placement in one.placements:
            yield from _placement_changes(one, placement)


def _environment_change(one: DeclaredEnvironment, had: dict[str, Any], wanted: dict[str, Any]) -> Change:
    changes = difference(had, wanted)
    return Change(
        "~" if had else "+",
        f"environments.{one.slug}",
        lines_of(changes),
        partial(Environment.objects.update_or_create, slug=one.slug, defaults=one.fields),
        _trace("environment.declared", one.slug, changes),
    )


def _configuration_changes(one: DeclaredEnvironment) -> Iterator[Change]:
    rows = ConfigEntry.objects.filter(environment__slug=one.slug).values_list("key", "value", "secret")
    had = {key: _shown(value, secret) for key, value, secret in rows}
    changes = difference(had, {key: _shown(*pair) for key, pair in one.configuration.items()})
    if not changes:
        return
    sign = "+" if not had else "~" if one.configuration else "-"
    yield Change(
        sign,
        f"environments.{one.slug}.configuration",
        lines_of(changes),
        partial(_configure, one.slug, one.configuration),
        _trace("environment.configured", one.slug, changes),
    )


def _shown(value: str, secret: str) -> str:
    """A variable in one word: its value, or where its secret comes from."""
    return f"secret {secret}" if secret else f"“{value}”"


def _configure(slug: str, configuration: dict[str, tuple[str, str]]) -> None:
    environment = Environment.objects.get(slug=slug)
    environment.configuration.exclude(key__in=configuration).delete()
    for key, (value, secret) in configuration.items():
        environment.configuration.update_or_create(key=key, defaults={"value": value, "secret": secret})


def _placement_changes(one: DeclaredEnvironment, declared: DeclaredPlacement) -> Iterator[Change]:
    there = Placement.objects.filter(environment__slug=one.slug, service__slug=declared.service).first()
    kept = {each["name"]: each.get("address", "") for each in there.instances} if there else {}
    driver = one.fields["driver"]
    instances = [
        {"name": each["name"], "address": _address(one.slug, driver, each, kept)} for each in declared.instances
    ]
    wanted = {
        "instances": instances,
        "health_path": declared.health_path,
        "driver_settings": declared.driver_settings,
    }
    had = {key: getattr(there, key) for key in wanted} if there else {}
    changes = difference(had, wanted if there else {key: value for key, value in wanted.items() if value})
    if there and not changes:
        return
    told = {key: [_told(key, each) for each in pair] for key, pair in changes.items()}
    yield Change(
        "~" if there else "+",
        f"environments.{one.slug}.services.{declared.service}",
        lines_of(told),
        partial(_place, one.slug, declared.service, wanted),
        _trace("placement.declared", one.slug, changes, declared.service),
    )


def _told(key: str, value: Any) -> Any:
    if key != "instances" or not value:
        return value
    return [" at ".join(filter(None, [each["name"], each.get("address")])) for each in value]


def _address(environment: str, driver: str, instance: dict[str, str], kept: dict[str, str]) -> str:
    """What the driver gave out once stays."""
    if instance["address"] != AUTO:
        return instance["address"]
    known = _declarable(driver)
    given = kept.get(instance["name"], "")
    return given or (known.address_for(environment, instance["name"]) if known else "")


def _place(environment: str, service: str, values: dict[str, Any]) -> None:
    placement, _ = Placement.objects.update_or_create(
        environment=Environment.objects.get(slug=environment),
        service=Service.objects.get(slug=service),
        defaults=values,
    )
    ProbeSchedule.objects.get_or_create(placement=placement)


def _trace(action: str, slug: str, changes: dict[str, Any], service: str = "") -> Trace:
    target = f"{service} in {slug}" if service else f"environment {slug}"
    return Trace(action, target, (slug,), {"changes": changes})


def services_left_alone(declared: dict[str, str]) -> list[str]:
    """Services that exist and are not in the file."""
    return [f"service {slug}" for slug in Service.objects.exclude(slug__in=declared).values_list("slug", flat=True)]


def environments_left_alone(declared: list[DeclaredEnvironment]) -> list[str]:
    """Environments, and services in declared ones, that exist and are not in the file."""
    slugs = [one.slug for one in declared]
    others = Environment.objects.exclude(slug__in=slugs).values_list("slug", flat=True)
    known = {(one.slug, placement.service) for one in declared for placement in one.placements}
    placed = Placement.objects.filter(environment__slug__in=slugs).values_list("environment__slug", "service__slug")
    return [
        *(f"environment {slug}" for slug in others),
        *(f"{service} in {slug}" for slug, service in placed if (slug, service) not in known),
    ]


SERVICES = Section("services", read_services, service_changes, services_left_alone)
ENVIRONMENTS = Section("environments", read_environments, environment_changes, environments_left_alone)
