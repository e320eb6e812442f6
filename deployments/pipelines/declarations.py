"""The section `pipelines` of the configuration file: which workflow runs of which repository may do what.

    [pipelines.backend]
    repository = "pitchey/pitchey-backend"
    refs = ["refs/heads/main", "refs/tags/v*"]
    services = ["pitchey-backend"]
    may = ["report", "deploy"]
    environments = ["staging", "production"]
    webhook_secret = "file:pipelines/backend-webhook"
    status = { token = "file:pipelines/github-token" }

Each rule has a person of its own, `pipeline-NAME`, without a password: operations that its runs ask for are that
person's, and taking an environment out of the rule takes the role from it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.accounts.models import PIPELINES, Grant, Role
from controlplane.accounts.services import ensure_person, set_grants
from controlplane.audit.record import SYSTEM
from deployments.models import Pipeline
from environments.addresses import problem_with
from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, Trace, difference, lines_of
from environments.models import Service
from environments.secrets import problem_with as problem_with_secret

WHO = SYSTEM("manage.py")
REASON = "manage.py apply"
GITHUB = "https://token.actions.githubusercontent.com"
GITHUB_API = "https://api.github.com"
MAY = ("report", "deploy")
# A pull_request_target run has the reference of the branch that it wants to change, and code of anybody.
EVENTS = ("push", "workflow_dispatch")
TEXTS = ("issuer", "audience", "keys_url", "repository", "repository_id", "webhook_secret", "paused")
LISTS = ("refs", "events", "job_environments", "services", "environments", "workflows")
FIELDS = (*TEXTS, *LISTS, "may_report", "status")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class DeclaredPipeline:
    """One rule: the values of the model's fields of the same names."""

    slug: str
    values: dict[str, Any]


def problem_with_address(url: str) -> str:
    """What is wrong with an address that tokens or keys travel to or from; "" when nothing is."""
    if words := problem_with(url):
        return words
    parts = urlsplit(url)
    return "" if parts.scheme == "https" or parts.hostname in LOOPBACK else "has to begin with https://"


def read_pipelines(file: Table) -> list[DeclaredPipeline]:
    """All rules, in the order of the file, in which they are tried."""
    return [_rule(file, slug, table) for slug, table in file.tables("pipelines")]


def _rule(file: Table, slug: str, table: Table) -> DeclaredPipeline:
    if len(PIPELINES + slug) > 60:
        table.wrong("repository", "the rule's name is too long; shorten it to 50 characters.")
    issuer = table.checked("issuer", problem_with_address, GITHUB).rstrip("/")
    may = _known(table, "may", MAY, "what a pipeline may do")
    environments = _known(table, "environments", known_environments(file), "an environment of this file")
    services = {*file.document.get("services", {}), *Service.objects.values_list("slug", flat=True)}
    if ("deploy" in may) != bool(environments):
        table.wrong("environments", 'goes with may = ["deploy"]: name where it may ask for deployments, or neither.')
    values: dict[str, Any] = {
        "issuer": issuer,
        "audience": table.text("audience", settings.SITE_URL),
        "keys_url": table.checked("keys_url", problem_with_address, f"{issuer}/.well-known/jwks"),
        "repository": table.checked("repository", _problem_with_repository),
        "repository_id": table.text("repository_id", "", limit=40),
        "refs": _refs(table),
        "events": _short(table, "events", 60) or list(EVENTS),
        "job_environments": _short(table, "job_environments"),
        "services": _known(table, "services", services, "a service of this file", needed=True),
        "environments": environments,
        "workflows": _short(table, "workflows"),
        "webhook_secret": table.checked("webhook_secret", problem_with_secret, ""),
        "may_report": "report" in may,
        "status": _status(table.below("status")) if "status" in table else {},
        "paused": table.choice("state", ("used", "paused"), "used") == "paused",
    }
    table.end()
    return DeclaredPipeline(slug, values)


def _short(table: Table, name: str, limit: int = 200) -> list[str]:
    values = table.texts(name)
    if any(not value or len(value) > limit or "\0" in value for value in values):
        table.wrong(name, f"has an entry that is empty or longer than {limit} characters.")
    return values


def _known(table: Table, name: str, known: Collection[str], what: str, *, needed: bool = False) -> list[str]:
    values = _short(table, name, 60)
    for value in values:
        if value not in known:
            table.wrong(name, f"“{value}” is not {what}; there are: {', '.join(sorted(known))}.")
    if needed and not values:
        table.wrong(name, "is missing; name at least one.")
    return values


def _refs(table: Table) -> list[str]:
    refs = _short(table, "refs")
    if not refs:
        table.wrong("refs", 'is missing; write the branches or tags that count, as in ["refs/heads/main"].')
    for ref in refs:
        if not ref.startswith("refs/") or "*" in ref[:-1] or ref.startswith("refs/pull/"):
            words = "write it as refs/heads/NAME or refs/tags/NAME, with at most one * at its end; never refs/pull/."
            table.wrong("refs", f"“{ref}” cannot be used: {words}")
    return refs


def _problem_with_repository(name: str) -> str:
    owner, _, rest = name.partition("/")
    good = owner and rest and "/" not in rest and not any(letter.isspace() or letter == "*" for letter in name)
    return "" if good else "is no repository; write OWNER/NAME, without a *"


def _status(table: Table) -> dict[str, str]:
    """How commits are told: by a token, or as a GitHub App."""
    status = {"api": table.checked("api", problem_with_address, GITHUB_API).rstrip("/")}
    if "app_id" in table:
        status |= {name: table.text(name, limit=40) for name in ("app_id", "installation_id")}
        status["private_key"] = table.checked("private_key", problem_with_secret)
    else:
        status["token"] = table.checked("token", problem_with_secret)
    table.end()
    return status


def pipeline_changes(declared: list[DeclaredPipeline]) -> Iterator[Change]:
    """Rules that come or become different; the roles of their people follow."""
    there = {one.slug: one for one in Pipeline.objects.all()}
    for position, one in enumerate(declared, start=1):
        rule = there.get(one.slug)
        had = {name: getattr(rule, name) for name in FIELDS} if rule else {}
        wanted = one.values if rule else {name: value for name, value in one.values.items() if value}
        changes = difference(had, wanted)
        if rule is not None and (rule.position != position or _roles_of(rule) != set(rule.environments)):
            changes["order and roles"] = ["", "as in the file"]
        if changes:
            yield Change(
                "~" if rule else "+", f"pipelines.{one.slug}", lines_of(changes), partial(_declare, one, position),
                Trace("pipeline.declared", f"pipeline {one.slug}", tuple(one.values["environments"]),
                      {"changes": changes}),
            )  # fmt: skip


def _roles_of(rule: Pipeline) -> set[str]:
    return set(Grant.objects.filter(person=rule.person_id, role=Role.OPERATOR).values_list("scope", flat=True))


def _declare(one: DeclaredPipeline, position: int) -> None:
    person, _ = ensure_person(PIPELINES + one.slug, name=f"Pipeline {one.slug}", who=WHO, reason=REASON)
    set_grants(person, dict.fromkeys(one.values["environments"], Role.OPERATOR), WHO, REASON)
    Pipeline.objects.update_or_create(slug=one.slug, defaults={**one.values, "position": position, "person": person})


def pipelines_left_alone(declared: list[DeclaredPipeline]) -> list[str]:
    """Rules that exist and are not in the file; they still count."""
    others = Pipeline.objects.exclude(slug__in=[one.slug for one in declared])
    return [f"pipeline {slug}" for slug in others.values_list("slug", flat=True)]


PIPELINE_RULES = Section("pipelines", read_pipelines, pipeline_changes, pipelines_left_alone)
