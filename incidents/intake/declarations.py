"""The sections `alert_sources` and `incident_rules` of the configuration file.

    [alert_sources.prometheus]
    kind = "alertmanager"
    token = "file:alerts/prometheus-token"

    [incident_rules.critical]
    matchers = 'severity="critical"'
    group_by = ["alertname", "environment"]
    severity = "P1"

Of a token only the SHA-256 is stored. A secret file below DATA_DIR/secrets that is not there yet is made with a new
token in it; a source whose token cannot be read otherwise cannot be used until it can.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings

from controlplane.operations.errors import StepError
from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.models import Environment
from environments.secrets import problem_with as problem_with_secret
from environments.secrets import resolve
from incidents.intake.gate import digest_of
from incidents.intake.matchers import BadMatchers, parse, spell
from incidents.intake.own import SLUG as OWN
from incidents.models import AlertSource, IncidentRule, Severity

KINDS = (AlertSource.Kind.ALERTMANAGER, AlertSource.Kind.PAGERDUTY, AlertSource.Kind.PLAIN)
TO_BE_MADE = "a new token"
UNREADABLE = "none that can be read"


@dataclass(frozen=True)
class DeclaredSource:
    """kind, environment (a slug or ""), paused and signing_secret as declared; token: its reference."""

    slug: str
    token: str
    fields: dict[str, Any]


# --- sources ------------------------------------------------------------------------------------------


def read_sources(file: Table) -> list[DeclaredSource]:
    """All sources, in the order of the file."""
    found: list[DeclaredSource] = []
    for slug, table in file.tables("alert_sources"):
        if slug == OWN:
            file.below("alert_sources").wrong(slug, "is the control plane's own name; take another.")
        environment = table.text("environment", "", limit=60)
        if environment and environment not in known_environments(file):
            table.wrong("environment", f"there is no environment {environment}; declare it in this file.")
        token = table.checked("token", problem_with_secret)
        if token and token in (other.token for other in found):
            table.wrong("token", "is another source's already; each has its own.")
        fields = {
            "kind": table.choice("kind", KINDS),
            "environment": environment,
            "signing_secret": table.checked("signing_secret", problem_with_secret, ""),
            "paused": table.choice("state", ("used", "paused"), "used") == "paused",
        }
        found.append(DeclaredSource(slug, token, fields))
        table.end()
    return found


def source_changes(declared: list[DeclaredSource]) -> Iterator[Change]:
    """Sources that come or become different."""
    there = {one.slug: one for one in AlertSource.objects.select_related("environment")}
    for one in declared:
        source = there.get(one.slug)
        had: dict[str, Any] = {}
        if source is not None:
            had = {name: getattr(source, name) for name in ("kind", "signing_secret", "paused")}
            had["environment"] = source.environment.slug if source.environment else ""
        wanted = one.fields if source else {name: value for name, value in one.fields.items() if value}
        changes = difference(had, wanted)
        if words := _token_change(one, source):
            changes["token"] = ["", words]
        if _is_to_be_made(one.fields["signing_secret"]):
            changes["signing_secret"] = ["", f"{one.fields['signing_secret']}, {TO_BE_MADE}"]
        if changes:
            yield Change(
                "~" if source else "+", f"alert_sources.{one.slug}", lines_of(changes), partial(_declare, one),
                Trace("alert.source_declared", f"alert source {one.slug}", data={"changes": changes}),
            )  # fmt: skip


def _token_change(one: DeclaredSource, source: AlertSource | None) -> str:
    """What would happen to its token, in words; "" for nothing. No word says what the token is."""
    if _is_to_be_made(one.token):
        return TO_BE_MADE
    digest = _digest(one.token)
    if digest is None:
        return "" if source else UNREADABLE
    return "" if source and source.token_digest == digest else "the one that is there"


def _digest(reference: str) -> str | None:
    try:
        return digest_of(resolve(reference))
    except StepError:
        return None


def _file_of(reference: str) -> Path | None:
    """Where a secret file of this installation is, or would be; None for any other reference."""
    source, _, name = reference.partition(":")
    if source != "file" or not name or PurePosixPath(name).is_absolute():
        return None
    return Path(settings.DATA_DIR) / "secrets" / name


def _is_to_be_made(reference: str) -> bool:
    path = _file_of(reference)
    return path is not None and not path.exists()


def _make(reference: str) -> None:
    path = _file_of(reference)
    if path is None or path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(secrets.token_urlsafe(24))


def _declare(one: DeclaredSource) -> None:
    for reference in (one.token, one.fields["signing_secret"]):
        _make(reference)
    slug = one.fields["environment"]
    values = {**one.fields, "environment": Environment.objects.get(slug=slug) if slug else None}
    if digest := _digest(one.token):
        values["token_digest"] = digest
    AlertSource.objects.update_or_create(slug=one.slug, defaults=values)


def sources_left_alone(declared: list[DeclaredSource]) -> list[str]:
    """Sources that exist and are not in the file."""
    known = [OWN, *(one.slug for one in declared)]
    others = AlertSource.objects.exclude(slug__in=known)
    return [f"alert source {slug}" for slug in others.values_list("slug", flat=True)]


# --- rules --------------------------------------------------------------------------------------------


def read_rules(file: Table) -> dict[str, dict[str, Any]]:
    """The rules by slug, in the order of the file, which is the order in which they are tried."""
    found: dict[str, dict[str, Any]] = {}
    for position, (slug, table) in enumerate(file.tables("incident_rules"), start=1):
        found[slug] = {
            "position": position,
            "matchers": _matchers(table),
            "group_by": table.texts("group_by"),
            "severity": table.choice("severity", (*Severity.values, "none"), "none").replace("none", ""),
            "title": table.text("title", "", limit=200),
        }
        table.end()
    return found


def _matchers(table: Table) -> list[dict[str, str]]:
    try:
        return parse(table.text("matchers", "", limit=4000))
    except BadMatchers as error:
        table.wrong("matchers", str(error))
        return []


def rule_changes(declared: dict[str, dict[str, Any]]) -> Iterator[Change]:
    """Rules that come or become different."""
    there = {one.slug: one for one in IncidentRule.objects.all()}
    for slug, wanted in declared.items():
        rule = there.get(slug)
        had = {name: getattr(rule, name) for name in wanted} if rule else {}
        changes = difference(had, wanted if rule else {name: value for name, value in wanted.items() if value})
        if "matchers" in changes:
            changes["matchers"] = [spell(one or []) for one in changes["matchers"]]
        if changes:
            yield Change(
                "~" if rule else "+", f"incident_rules.{slug}", lines_of(changes),
                partial(IncidentRule.objects.update_or_create, slug=slug, defaults=wanted),
                Trace("incident.rule_declared", f"incident rule {slug}", data={"changes": changes}),
            )  # fmt: skip


def rules_left_alone(declared: dict[str, dict[str, Any]]) -> list[str]:
    """Rules that exist and are not in the file."""
    others = IncidentRule.objects.exclude(slug__in=declared)
    return [f"incident rule {slug}" for slug in others.values_list("slug", flat=True)]


SOURCES = Section("alert_sources", read_sources, source_changes, sources_left_alone)
RULES = Section("incident_rules", read_rules, rule_changes, rules_left_alone)
