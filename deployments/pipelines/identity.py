"""A workflow run as one who acts: what its rule lets it do, as the rule's person, by a token that serves once.

A token is good for any number of looks while it lasts, but for one change: the first request that changes something
takes it, and only that very request, sent again under its Idempotency-Key after a lost answer, may use it once more.
Whoever reads a token in a log gets nothing done with it.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models.functions import Now
from django.http import HttpRequest

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.accounts.programs import NotBelieved
from controlplane.audit.record import Who
from controlplane.operations.idempotency import HEADER
from deployments.models import Pipeline, UsedToken
from deployments.pipelines import tokens
from deployments.pipelines.keys import Keys
from deployments.pipelines.tokens import Run

SAFE = ("GET", "HEAD")
# Beyond its expiry, for clocks that differ.
KEPT = timedelta(hours=1)

keys = Keys()


@dataclass(frozen=True, kw_only=True)
class Workflow(Actor):
    """A run of a workflow. The trail names the run and who set it off; operations also keep the rule's person."""

    pipeline: Pipeline
    run: Run

    @property
    def who(self) -> Who:
        """As the audit trail knows it."""
        return Who(str(self.run), self.person.pk, self.via)

    def may_report(self, service: str) -> bool:
        """Whether its rule lets it make releases of the service known."""
        return self.pipeline.may_report and service in self.pipeline.services

    def may_deploy(self, service: str) -> bool:
        """Whether its rule lets it ask for deployments of the service; where, its roles say."""
        return service in self.pipeline.services


def authenticate(request: HttpRequest, text: str) -> Workflow | None:
    """Who calls with this token; None for what is none of an issuer's. Raises NotBelieved, CannotTell."""
    if not tokens.looks_like_one(text):
        return None
    rules = Pipeline.objects.filter(paused=False, person__is_active=True).select_related("person")
    rule, run = tokens.read(text, list(rules), keys)
    if request.method not in SAFE:
        spend(rule, run, request)
    return Workflow(person=rule.person, cap=Role.OPERATOR, via=f"pipeline {rule.slug}", pipeline=rule, run=run)


def spend(rule: Pipeline, run: Run, request: HttpRequest) -> None:
    """Take the token for this request. Raises NotBelieved when another has taken it."""
    key = request.headers.get(HEADER, "")
    head = f"{request.method} {request.get_full_path()}\n{key}\n"
    digest = hashlib.sha256(head.encode() + request.body).hexdigest()
    expires_at = datetime.fromtimestamp(run.expires_at, UTC)
    used, first = UsedToken.objects.get_or_create(
        issuer=rule.issuer,
        jti=hashlib.sha256(run.jti.encode()).hexdigest(),
        defaults={"request": digest, "expires_at": expires_at},
    )
    if not first and not (key and used.request == digest):
        raise NotBelieved("This token has changed something already. Ask its issuer for a fresh one for each change.")


def forget_used() -> int:
    """Drop what no token can be used for any more; returns how many (the clock calls it)."""
    return UsedToken.objects.filter(expires_at__lt=Now() - KEPT).delete()[0]
