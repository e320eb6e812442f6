"""An environment with every rule that there is, and a deployment whose checklist is half ticked."""

from datetime import UTC, datetime

from controlplane.accounts.access import Actor
from controlplane.operations.models import Operation
from deployments.models import ApproverGroup, Deployment, Policy, Release, WebhookDelivery
from deployments.policies import end_freeze, freeze, tick
from tests.browser.company import Company
from tests.deployments.history import built
from tests.deployments.pipelines.conftest import make_rule

ITEMS = ["The on-call engineer knows of it", "The dashboard of the API is open"]


def ruled(company: Company, operation: Operation) -> list[str]:
    """The addresses of its pages. operation: one that has not started, in production."""
    production, bob = company.environment("production"), Actor(company.bob)
    ApproverGroup.objects.create(slug="sre", name="Site reliability", people=["bob"])
    Policy.objects.update_or_create(
        environment=production,
        defaults={
            "soak_minutes": 60, "evidence": ["scan", "signature"], "findings": {"critical": 0, "high": 5},
            "incidents": ["P1", "P2"], "backup_minutes": 60, "backup": "make", "checklist": ITEMS,
            "approvers": {"sre": 1}, "way_back": "possible",
            "hours": {"zone": "Europe/Berlin", "days": ["mon", "tue", "wed", "thu"], "from": "09:00", "to": "16:00"},
        },
    )  # fmt: skip
    freeze(bob, production, reason="everybody is away", zone="Europe/Berlin", starts="2026-01-01T18:00", minutes=15840,
           rule="FREQ=YEARLY")  # fmt: skip
    today = f"{datetime.now(UTC):%Y-%m-%d}T00:00"
    once = freeze(bob, production, reason="the fair", zone="UTC", starts=today, minutes=60)
    freeze(bob, production, reason="for now and ever", zone="UTC", starts=today, minutes=1440,
           rule="FREQ=DAILY")  # fmt: skip
    end_freeze(bob, production, once.pk, "it was called off")
    tick(bob, operation.pk, ITEMS[0])
    deployment = Deployment.objects.select_related("release__service").get(operation=operation)
    ran = Release.objects.get(service=deployment.release.service, digest=deployment.from_digest)
    built(ran, 10)
    built(deployment.release, 13, 8)
    pages = ["checklist", "commits"]
    return ["/environments/production/rules", *(f"/deployments/{operation.pk}/{page}" for page in pages)]


def trusted(company: Company) -> str:
    """The address of the pipelines: one that is trusted and was told something, and one that is paused."""
    issuer, services = "https://token.actions.githubusercontent.com", ["pitchey-backend"]
    rule = make_rule(issuer, services=services, webhook_secret="env:HOOK", repository_id="4711")
    make_rule(issuer, "nightly", services=services, environments=["staging"], paused=True)
    for number in range(3):
        told = {"said": "CI of commit 5f0c91d2 passed", "releases": [f"pitchey-backend 1.{number}.0"]}
        WebhookDelivery.objects.create(
            pipeline=rule, delivery=f"72d3162e-cc78-11e3-81ab-4c936794{number}", event="workflow_run",
            body_digest=f"{number:064}", answer={"event": "workflow_run", **told},
        )  # fmt: skip
    return "/pipelines"
