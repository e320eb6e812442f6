"""The sections `alert_rules` and `database_probes` of the configuration file: the guide's alert configuration.

[alert_rules.high-error-rate]
name = "HighErrorRate"
condition = "error_rate > 0.05"
duration = "5m"
severity = "critical"
notify = ["pagerduty", "slack"]

[database_probes]
production = "file:production/database-url"
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.models import Environment
from environments.secrets import problem_with as problem_with_secret
from incidents.models import AlertRule, AlertSeverity, ChannelKind, DatabaseProbe
from incidents.rules.changing import apply
from incidents.rules.conditions import problem_with as problem_with_condition
from incidents.rules.durations import problem_with as problem_with_duration
from incidents.rules.durations import seconds_of, written

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)

Rules = dict[str, dict[str, Any]]
Probes = dict[str, str]


def read_rules(file: Table) -> Rules:
    """The rules by slug: fields as the model has them."""
    found: Rules = {}
    for slug, table in file.tables("alert_rules"):
        name = table.checked("name", problem_with_name, "".join(part.capitalize() for part in slug.split("-")))
        if name in (other["name"] for other in found.values()):
            table.wrong("name", f"there is another rule of the name {name}.")
        found[slug] = {
            "name": name,
            "condition": table.checked("condition", problem_with_condition),
            "for_seconds": _seconds(table),
            "severity": table.choice("severity", AlertSeverity.values),
            "notify": _chosen(table, "notify", ChannelKind.values),
            "environments": _chosen(table, "environments", sorted(known_environments(file))),
            "summary": table.text("summary", ""),
        }
        table.end()
    return found


def problem_with_name(name: str) -> str:
    """What is wrong with the name of a rule, in words; "" when nothing is."""
    return "" if NAME.fullmatch(name) else "is no name of an alert: use letters, digits and _, as in HighErrorRate"


def _seconds(table: Table) -> int:
    text = table.checked("duration", problem_with_duration, "0s")
    return 0 if problem_with_duration(text) else seconds_of(text)


def _chosen(table: Table, name: str, known: list[str]) -> list[str]:
    """Some of the known words, each once, in the order of the file."""
    found = table.texts(name)
    for word in found:
        if word not in known:
            table.wrong(name, f"“{word}” is not known; there are: {', '.join(known)}.")
    return list(dict.fromkeys(found))


def rule_changes(declared: Rules) -> Iterator[Change]:
    """Rules that come or become different."""
    there = {rule.slug: rule for rule in AlertRule.objects.all()}
    for slug, wanted in declared.items():
        rule = there.get(slug)
        had = {name: getattr(rule, name) for name in wanted} if rule else {}
        changes = difference(had, wanted if rule else {key: value for key, value in wanted.items() if value})
        if changes:
            yield Change(
                "~" if rule else "+", f"alert_rules.{slug}", lines_of(_told(changes)), partial(apply, slug, wanted),
                Trace("alert_rule.declared", f"alert rule {wanted['name']}", tuple(wanted["environments"]),
                      {"changes": changes}),
            )  # fmt: skip


def _told(changes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    told = dict(changes)
    if "for_seconds" in told:
        told["duration"] = [one if one == "" else written(one) for one in told.pop("for_seconds")]
    return told


def rules_left_alone(declared: Rules) -> list[str]:
    """Rules that exist and are not in the file."""
    others = AlertRule.objects.exclude(slug__in=declared).values_list("slug", flat=True)
    return [f"alert rule {slug}" for slug in others]


def read_probes(file: Table) -> Probes:
    """By environment, the secret reference of its database's URL."""
    found: Probes = {}
    table = file.below("database_probes")
    for slug in table.values:
        reference = table.checked(slug, problem_with_secret)
        if slug not in known_environments(file):
            table.wrong(slug, "names no environment; declare it in this file.")
        found[slug] = reference
    return found


def probe_changes(declared: Probes) -> Iterator[Change]:
    """Probes that come or become different."""
    there = dict(DatabaseProbe.objects.values_list("environment__slug", "reference"))
    for slug, reference in declared.items():
        had = {"reference": there[slug]} if slug in there else {}
        if changes := difference(had, {"reference": reference}):
            yield Change(
                "~" if slug in there else "+", f"database_probes.{slug}", lines_of(changes),
                partial(_declare_probe, slug, reference),
                Trace("database_probe.declared", f"database probe of {slug}", (slug,), {"changes": changes}),
            )  # fmt: skip


def _declare_probe(slug: str, reference: str) -> None:
    environment = Environment.objects.get(slug=slug)
    DatabaseProbe.objects.update_or_create(environment=environment, defaults={"reference": reference})


def probes_left_alone(declared: Probes) -> list[str]:
    """Probes that exist and are not in the file."""
    others = DatabaseProbe.objects.exclude(environment__slug__in=declared).values_list("environment__slug", flat=True)
    return [f"database probe of {slug}" for slug in others]


RULES = Section("alert_rules", read_rules, rule_changes, rules_left_alone)
PROBES = Section("database_probes", read_probes, probe_changes, probes_left_alone)
