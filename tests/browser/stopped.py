"""A company in which everything is stopped: one operation stands still, others wait, and a rule was set aside."""

from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Role
from controlplane.clock.database import database_time
from controlplane.embedded.processes import free_port, wait_until
from controlplane.operations import bypasses, world
from controlplane.operations.bypasses import Part
from controlplane.operations.models import Bypass, Operation
from controlplane.operations.states import State
from environments.models import Placement
from tests.browser.company import SEEN, Company
from tests.people import person


def broken_glass(company: Company) -> str:
    """The address of two that were set aside; one of them has been reviewed."""
    people = [Part(one.pk, one.title_name) for one in (company.alice, person("erin", everywhere=Role.APPROVER))]
    for key in ("glass 1", "glass 2"):
        with transaction.atomic():
            bypasses.note(
                key, what="Glass broken for production, incident 7", url="/incidents/7", scopes=["production"],
                reason="the fix cannot wait", people=people, until=database_time() + timedelta(hours=1),
            )  # fmt: skip
    bypasses.review(Actor(company.bob), Bypass.objects.get(key="glass 1").pk, "It was right, and the runbook is wrong.")
    return "/break-glass"


def stopped(company: Company) -> list[str]:
    """The addresses of what stands still and of what waits. Nothing goes on after this."""
    staging = company.environment("staging")
    staging.driver_settings = SEEN
    staging.save()
    place = Placement.objects.get(environment=staging)
    # With a safe point yet to come, however fast the worker is.
    place.instances += [{"name": f"staging-{n}", "address": f"http://127.0.0.1:{free_port()}"} for n in (2, 3, 4)]
    place.save()
    still = company.ask("staging", "1.4.0", "back to what was")
    assert wait_until(lambda: _rows(still).filter(state=State.RUNNING).exists(), 60)
    world.stop(Actor(company.bob), "something eats the certificates")
    assert wait_until(lambda: _rows(still).exclude(paused_at=None).exists(), 60), _rows(still).get().outcome
    waits = company.ask("development", "1.5.0", "the next one")
    return ["/world", still.get_absolute_url(), waits.get_absolute_url(), "/"]


def _rows(operation: Operation) -> QuerySet[Operation]:
    return Operation.objects.filter(pk=operation.pk)
