"""A deployment with each driver, with secrets that are easily found: they are in nothing that comes out of it.

Each driver deploys once well and then badly, see `places`. Then a proxy that quotes what it is sent stands in for the
place, and everybody who asks the place hears of it: drift, what waits, what looks back at the deed, plans and pages.
"""

import logging
from collections.abc import Iterator
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models.functions import Now

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Person
from controlplane.accounts.streams import authenticate
from controlplane.live.ring import ring
from controlplane.operations import deeds, engine
from controlplane.operations.masking import MASK
from controlplane.operations.models import Deed, Operation
from environments import drift
from environments.models import DriftWatch, Environment, Service
from incidents.lifecycle import open_incident
from incidents.models import Severity
from tests.aws.company import REPOSITORY
from tests.deployments.outputs import (
    Found,
    Listener,
    answers,
    database,
    downloads,
    live,
    page,
    pages,
    signed_in,
    streamed,
    where,
)  # fmt: skip
from tests.deployments.places import PLAIN, SECRETS, Place, ask, configure
from tests.deployments.places import ecs as ecs  # noqa: PLC0414 (a fixture)
from tests.deployments.places import hosts as hosts  # noqa: PLC0414 (a fixture)
from tests.deployments.places import kubernetes as kubernetes  # noqa: PLC0414 (a fixture)
from tests.deployments.places import local as local  # noqa: PLC0414 (a fixture)
from tests.deployments.places import proxy as proxy  # noqa: PLC0414 (a fixture)
from tests.deployments.places import secrets as secrets  # noqa: PLC0414 (a fixture)
from tests.environments.conftest import fleet as fleet  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import images as images  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import in_podman as in_podman  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import own_podman as own_podman  # noqa: PLC0414 (a fixture)
from tests.environments.hosts.conftest import park as park  # noqa: PLC0414 (a fixture)
from tests.environments.kubernetes.conftest import town as town  # noqa: PLC0414 (a fixture)
from tests.live.conftest import Web

pytest_plugins = ["tests.aws.fixtures"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["local", "ecs", "hosts", "kubernetes"])
def place(request: pytest.FixtureRequest, secrets: Path) -> Place:
    found: Place = request.getfixturevalue(request.param)
    configure(found.environment)
    return found


def carried_out(operation: Operation) -> Operation:
    """Whatever comes of it."""
    engine.run(operation.pk, "w1")
    operation.refresh_from_db()
    return operation


def exported(environment: Environment, service: str) -> Found:
    """What commands print."""
    for name, arguments in (("verify_audit", ()), ("export_rules", ("--format", "prometheus"))):
        out = StringIO()
        call_command(name, *arguments, stdout=out)
        yield f"command {name}", out.getvalue()
    out = StringIO()
    if environment.driver == "local":
        with pytest.raises(CommandError, match="applies no files"):  # its processes are started from no file
            call_command("export", "manifests", environment.slug, service, "1.5.0", stdout=out)
        return
    call_command("export", "manifests", environment.slug, service, "1.5.0", stdout=out)
    yield "command export", out.getvalue()


def looked_at(environment: Environment, service: str, person: Person) -> Found:
    """The pages that ask the place, after the clock has looked there."""
    DriftWatch.objects.update(due_at=Now())
    drift.look_due()
    client = signed_in(person)
    there = f"/environments/{environment.slug}"
    plan = f"{there}/deploy?service={service}&version=1.6.0"
    yield from (page(client, address) for address in (plan, f"{there}/adopt/{service}", f"{there}/manifests/{service}"))


def leaked(place: Place, good: Operation, service: str, person: Person) -> Found:
    """What comes out while somebody in between quotes what the driver sends."""
    if not place.leaks:
        return
    waiting = ask(person, place.environment, "1.6.0", image=f"{REPOSITORY}:1.6.0")
    # As if nobody had changed anything since: who asks what came of it goes on asking.
    Operation.objects.exclude(pk=good.pk).filter(finished_at__isnull=False).update(started_at=good.started_at)
    for number, leak in enumerate(place.leaks):
        leak()
        yield from looked_at(place.environment, service, person)
        if number == 0:
            carried_out(waiting)
            assert waiting.state == "queued" and waiting.outcome.startswith("waits: "), waiting.outcome
            Deed.objects.filter(operation=good).update(ask_at=Now(), tries=deeds.TRIES - 1)
            assert deeds.ask_due() == 1 and Deed.objects.get(operation=good).end == Deed.End.UNHEARD
            assert DriftWatch.objects.get().unknown
    if place.environment.driver != "hosts":  # whose engines are sent no secret
        assert MASK in waiting.outcome and MASK in DriftWatch.objects.get().unknown


@pytest.fixture
def heard() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.mark.timeout(120)
def test_no_secret_in_any_output_of_any_driver(
    place: Place, heard: Listener, alice: Person, ada: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environment, service = place.environment, Service.objects.get()
    incident, _ = open_incident(Actor(alice).who, title="Slow", severity=Severity.P3, environments=[environment.slug])
    with Web(authenticate) as web:
        news = live(web.port, ada, "/live/news")
        good = carried_out(place.good())
        assert good.state == "succeeded", good.outcome
        bad = [carried_out(one()) for one in place.bad]
        assert {one.state for one in bad} <= {"failed", "needs_operator"}, [one.outcome for one in bad]
        for one in bad:
            said = [event.text for event in one.events.all()]
            assert any(MASK in text for text in said), f"it had no secret to say: {said}"
        ring("news", "the-end")
        found = [("stream /live/news", message.data) for message in news.until_news("the-end")]
        news.close()
        for one in (good, *bad):
            for form in ("html", "json"):
                found += streamed(web.port, ada, f"/live/operations/{one.pk}?after=0&as={form}", one.last_seq)
    found += exported(environment, service.slug)
    found += looked_at(environment, service.slug, ada)
    found += leaked(place, good, service.slug, ada)
    names: dict[str, Any] = {
        "slug": environment.slug, "environment": environment.slug, "service": service.slug, "version": "1.5.0",
    }  # fmt: skip
    found += [
        *pages(ada, names), *answers(ada, names),
        *chain.from_iterable(
            chain(pages(ada, names | {"pk": one.pk}, of="pk"), answers(ada, names | {"operation_id": one.pk}))
            for one in (good, *bad)
        ),
        *downloads(ada, incident),
        *database(),
        *heard.said(),
        *((f"log {record.name}", logging.Formatter().format(record)) for record in caplog.records),
    ]  # fmt: skip
    for secret in (*SECRETS, *place.secrets):
        assert where(secret, iter(found)) == [], secret[:12]
    # The search would find them: what is no secret is found, and so are the places where they stood.
    assert {one.partition(" ")[0] for one in where(PLAIN, iter(found))} >= {"table", "page"}
    masked = {one.partition(" ")[0] for one, text in found if MASK in text}
    assert masked >= {"table", "page", "API", "stream"}
    assert {one.partition(" ")[0] for one, _ in found} >= {"ring", "key", "download", "command"}
    assert sum(" (200)" in one for one, _ in found if one.startswith(("page", "API"))) > 30
