"""Canaries for the browser: one that is being compared, one that was worse."""

import random
from dataclasses import replace
from datetime import timedelta

from django.urls import reverse
from django.utils.timezone import now

from controlplane.accounts.access import Actor
from controlplane.operations.models import Operation, Step
from controlplane.operations.states import State, StepState
from deployments.models import CanarySample, CanaryVerdict, StrategyTable
from deployments.services import draft, request_deployment, software_of
from deployments.strategies.canary import canary_plan
from deployments.strategies.judge import judge
from deployments.strategies.page import CanaryPage
from deployments.strategies.records import interval_of, samples_of
from deployments.strategies.settings import CanarySettings
from deployments.strategies.situation import Balanced, Situation, member_at
from environments.drivers import DRIVERS
from environments.targets import target_of
from tests.browser.company import Company

EVERY = timedelta(seconds=5)


def compared(company: Company) -> list[str]:
    """The addresses of their pages, of an operation, and of a plan with a choice."""
    watched, worse = _canary(company, 0.012, 60), _canary(company, 0.055, 40)
    Step.objects.filter(operation=watched, key="judge").update(
        state=StepState.RUNNING, attempt=1, deadline=now() + timedelta(minutes=21)
    )
    held = now() + timedelta(days=1)
    Operation.objects.filter(pk=watched.pk).update(state=State.RUNNING, started_at=now(), lease_until=held, worker="w")
    page = CanaryPage(worse)
    words = judge([interval_of(row) for row in samples_of(worse.pk)], page.limits).words
    CanaryVerdict.objects.create(operation=worse, outcome="bad", words=words, goes_on=False)
    Operation.objects.filter(pk=worse.pk).update(state=State.FAILED, started_at=now(), finished_at=now(), outcome=words)
    production = company.environment("production")
    StrategyTable.objects.create(environment=production, settings={"strategy": "rolling", "also": ["canary"]})
    release = company.releases["1.6.0"].pk
    deploy = reverse("deploy", args=["production"])
    return [
        *(reverse("canary", args=[one.pk]) for one in (watched, worse)),
        worse.get_absolute_url(),
        f"{deploy}?release={release}&strategy=canary",
    ]


def _canary(company: Company, rate: float, samples: int) -> Operation:
    """One of 1.5.0 in production, with so many looks at counters that never were."""
    production, release = company.environment("production"), company.releases["1.5.0"]
    made = draft(production, company.releases["1.4.0"])
    target = target_of(made.placement)
    members = {one.name: member_at(one) for one in target.instances}
    balanced = Balanced({"kind": "haproxy", "settings": {}}, members, weighs=True, counts=True)
    running = [replace(one, version="1.4.0", digest="sha256:" + "4" * 64) for one in made.running]
    situation = Situation(target, running, "local", balanced)
    plan = canary_plan(DRIVERS["local"], situation, software_of(release), CanarySettings())
    made = replace(made, release=release, plan=plan, gates=[], strategy="canary")
    operation = request_deployment(
        Actor(company.alice), environment=production, release=release, reason="new search", made=made
    )
    _look(operation, rate, samples)
    return operation


def _look(operation: Operation, rate: float, samples: int) -> None:
    chance = random.Random(operation.pk)
    rows = []
    for number in range(samples + 1):
        ours, theirs = (0, 0) if not number else (chance.randint(30, 60), chance.randint(350, 420))
        rows.append(
            CanarySample(
                operation=operation,
                at=now() - EVERY * (samples - number),
                canary_requests=ours,
                canary_errors=sum(chance.random() < rate for _ in range(ours)),
                canary_ms=24 + chance.random() * 9 if ours else None,
                baseline_requests=theirs,
                baseline_errors=sum(chance.random() < 0.01 for _ in range(theirs)),
                baseline_ms=22 + chance.random() * 3 if theirs else None,
            )
        )
    CanarySample.objects.bulk_create(rows)
