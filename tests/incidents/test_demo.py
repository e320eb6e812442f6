"""The demo may be broken and mended, and nothing else may; its sample incident holds and has a deployment to blame."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from controlplane.accounts.models import Person
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM
from controlplane.operations.errors import Conflict, Invalid, Refused
from deployments import demo as software
from deployments.models import Deployment
from environments.models import Environment, HealthSample, Placement
from incidents import demo, timeline
from incidents.models import Incident, TimelineEntry
from tests.environments.fleet import Fleet

pytestmark = pytest.mark.django_db(transaction=True)
SAMPLE = Path(__file__).parents[2] / "controlplane" / "samples" / "pitchey.toml"
WHO = SYSTEM("test")


@pytest.fixture
def company(data_dir: Path, settings: Any) -> Iterator[Placement]:
    """The guide's company as bin/run declares it, with shorter waits; gives its production."""
    settings.DEMO = True
    call_command("apply", str(SAMPLE), "--yes")
    for environment in Environment.objects.all():
        environment.driver_settings |= {"checks": 1, "check_interval": 0.01, "drain_seconds": 0.01}
        environment.save()
    (data_dir / "demo-passwords.json").write_text(json.dumps({"alice": "a-password-of-alice"}))
    software.prepare()
    yield Placement.objects.select_related("environment", "service").get(environment__slug="production")
    for placement in Placement.objects.all():
        Fleet(placement).kill()


def test_what_is_no_demo_is_not_broken(company: Placement, settings: Any) -> None:
    settings.DEMO = False
    assert demo.breakable() == []
    with pytest.raises(Refused):
        demo.break_instance(WHO, "production-1")
    with pytest.raises(Refused):
        demo.mend(WHO)
    with pytest.raises(CommandError):
        call_command("break_something")


def test_an_instance_is_killed_and_started_again(company: Placement, client: Client) -> None:
    assert [one.runs for one in demo.breakable()] == [True, True, True]
    call_command("break_something", instance="production-2")
    assert [one.runs for one in demo.breakable()] == [True, False, True]
    with pytest.raises(Conflict, match="does not run"):
        demo.break_instance(WHO, "production-2")
    with pytest.raises(Invalid):
        demo.break_instance(WHO, "production-9")
    client.force_login(Person.objects.get(username="dana"))
    assert client.post("/incidents/demo", {"instance": "production-1"}).status_code == 403
    call_command("break_something", mend=True)
    assert [one.runs for one in demo.breakable()] == [True, True, True]
    assert list(Entry.objects.filter(action__startswith="demo.").values_list("target", flat=True)) == [
        "production-2", "production",
    ]  # fmt: skip


def test_the_sample_is_made_once_and_its_line_holds(company: Placement) -> None:
    call_command("demo_incidents")
    call_command("demo_incidents")
    incident = Incident.objects.get()
    rows = TimelineEntry.objects.filter(incident=incident).order_by("seq")
    exported = [timeline.fields_of(entry) | {"hash": entry.hash} for entry in rows]
    assert timeline.verify(exported, incident.head_hash) == incident.last_seq > 10
    went = Deployment.objects.filter(environment__slug="production").order_by("pk")
    assert [(one.kind, one.release.version, one.operation.state) for one in went] == [
        ("deploy", "1.5.0", "succeeded"), ("rollback", "1.4.0", "succeeded"),
    ]  # fmt: skip
    forth, back = (one.operation.finished_at for one in went)
    assert forth is not None and back is not None and forth < incident.opened_at < back
    assert HealthSample.objects.filter(healthy=False).exists()
