"""What plan.json says: the plan from the side that serves now to the one that waits, as recover.py wants it.

Secrets are named, never given: where settings refer to one, plan.json has the name of a variable that whoever runs the
script sets (or leaves away, for boto3's own chain of credentials).
"""

import json
import re
from typing import Any

from backups.disaster.base import Candidate
from backups.disaster.kit.translation import account_of, database_of, traffic_of
from backups.disaster.sides import sides
from backups.models import RecoveryPlan
from controlplane.operations.plans import digest_of
from environments.models import Environment, Placement

FORMAT = 1
NOT_HERE = "[not in the kit]"
REFERENCE = re.compile(r"(env|file|aws):\S+")
TELLING = re.compile(r"passw|secret|token|credential|private|api_?key|access_?key", re.IGNORECASE)
# A password in an address: it has no place in a kit, whoever wrote it into the configuration.
PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+(?=@)")

Json = dict[str, Any]


def contents_of(plan: RecoveryPlan) -> Json:
    """All that does not change by itself; the same plan gives the same, and so does its digest."""
    source, target = plan.serving, plan.waiting
    from_uploads, to_uploads = (dict(one.settings) for one in sides(plan, plan.uploads, source))
    contents: Json = {
        "format": FORMAT,
        "plan": {
            "slug": plan.slug,
            "name": plan.name,
            "rto_seconds": plan.rto_seconds,
            "rpo_seconds": plan.rpo_seconds,
        },
        "from": _about(source),
        "to": _about(target),
        "database": database_of(plan.database.get("kind", ""), *sides(plan, plan.database, source)),
        "traffic": traffic_of(plan.traffic.get("kind", ""), *sides(plan, plan.traffic, source)),
        "uploads": {"kind": plan.uploads.get("kind", ""), "from": from_uploads, "to": to_uploads},
        "applications": _applications(plan, source, target),
        "outside": str(sides(plan, plan.traffic, source)[1].settings.get("url", "")),
        "configuration": plan.configuration,
        "checks": plan.checks,
        "tell": plan.tell,
    }
    guarded: Json = _guarded(contents)
    return {**guarded, "content_digest": digest_of(guarded)}


def with_candidates(contents: Json, found: list[Candidate], trouble: str, made_at: str) -> Json:
    """The same with what could be restored at the time: for orientation only, the script looks for itself."""
    known = [{"title": one.title, "as_of": one.as_of.isoformat()} for one in found]
    return {**contents, "made_at": made_at, "known_candidates": known, "why_no_candidates": trouble}


def without_secrets(text: str, secrets: list[str]) -> str:
    """The text without the values of secrets, whoever wrote them where; without passwords in addresses too."""
    for secret in sorted(secrets, key=len, reverse=True):
        for written in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            text = text.replace(written, "[secret]")
    return PASSWORD.sub(r"\1:[secret]", text)


def _about(environment: Environment) -> Json:
    rows = Placement.objects.filter(environment=environment).select_related("service").order_by("service__slug")
    health = [
        f"{address.rstrip('/')}{placement.health_path}"
        for placement in rows
        for address in _addresses(environment, placement)
    ]
    return {"environment": environment.slug, "name": environment.name, "url": environment.url,
            "health": sorted(set(health))}  # fmt: skip


def _addresses(environment: Environment, placement: Placement) -> list[str]:
    """Where it can be asked from anywhere: the environment's own address before those of single instances."""
    if environment.url:
        return [environment.url]
    return [one["address"] for one in placement.instances if one.get("address")]


def _applications(plan: RecoveryPlan, source: Environment, target: Environment) -> list[Json]:
    rows = Placement.objects.filter(environment__in=[source, target], service__slug__in=plan.services)
    placed = {(one.environment_id, one.service.slug): one for one in rows.select_related("environment", "service")}
    return [
        {"service": service, "count": count, "from": _service_at(placed.get((source.pk, service)), source),
         "to": _service_at(placed.get((target.pk, service)), target)}
        for service, count in sorted(plan.services.items())
    ]  # fmt: skip


def _service_at(placement: Placement | None, environment: Environment) -> Json:
    """cluster and service where the place is one of ECS; others are left to people."""
    settings = {**environment.driver_settings, **(placement.driver_settings if placement else {})}
    about: Json = {"environment": environment.slug, "driver": environment.driver, "service": "", "cluster": ""}
    if placement is None or environment.driver != "ecs":
        return {**about, "instances": [one["name"] for one in placement.instances] if placement else []}
    return {**about, **account_of(settings, environment.slug), "cluster": settings.get("cluster", ""),
            "service": settings.get("service") or placement.service.slug}  # fmt: skip


def _guarded(value: Any, key: str = "") -> Any:
    """What has the name of a secret stays only if it is a reference, or the name of a variable."""
    if isinstance(value, dict):
        return {name: _guarded(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_guarded(one) for one in value]
    named = key.endswith("_env") or not TELLING.search(key)
    if not isinstance(value, str) or not value or named or REFERENCE.fullmatch(value):
        return value
    return NOT_HERE
