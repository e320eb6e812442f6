"""An incident in the browser, from the instance that dies to the lesson; a recorder stands for PagerDuty."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Route, expect

from controlplane.accounts.access import Actor
from controlplane.embedded.processes import wait_until
from environments.models import EnvironmentLock, Placement, ProbeSchedule
from incidents import lifecycle
from incidents.models import (
    Channel,
    EscalationLevel,
    EscalationPolicy,
    Incident,
    IncidentRule,
    Level,
    Postmortem,
    Severity,
)
from tests.browser.company import Company, folders
from tests.browser.conftest import Open
from tests.incidents.providers import Provider

KEY = "routing-key-of-the-browser-tests"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Provider]:
    """What stands for PagerDuty."""
    made = Provider(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def watched(company: Company, recorder: Provider) -> Placement:
    """Production is probed each second, and a dead instance is a P1 that pages Bob."""
    secret = Path(settings.DATA_DIR) / "secrets" / "paging" / "key"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text(KEY)
    Channel.objects.create(
        kind="pagerduty", settings={"routing_key": "file:paging/key", "url": f"{recorder.url}/v2/enqueue"}
    )
    policy = EscalationPolicy.objects.create(slug="matrix", name="The matrix", severities=["P1"])
    for number, minutes in ((1, 0), (2, 15)):
        EscalationLevel.objects.create(
            policy=policy, number=number, role="On-Call Engineer", after_seconds=minutes * 60,
            targets=[{"person": "bob"}], channels=["pagerduty"],
        )  # fmt: skip
    IncidentRule.objects.create(
        slug="down", matchers=[{"label": "alertname", "op": "=", "value": "InstanceDown"}],
        group_by=["environment"], severity="P1", title="{environment}: an instance is down",
    )  # fmt: skip
    placement = Placement.objects.get(environment__slug="production")
    ProbeSchedule.objects.update_or_create(placement=placement, defaults={"interval_seconds": 1})
    return placement


def kill_one(placement: Placement) -> str:
    """As an accident would; gives its name."""
    folder = next(one for one in folders() if one.name == placement.instances[0]["name"])
    assert folder.pid is not None
    os.kill(folder.pid, signal.SIGKILL)
    return folder.name


def test_from_the_dead_instance_to_the_lesson(
    company: Company, watched: Placement, recorder: Provider, open_as: Open
) -> None:
    page = open_as(company.alice, "/incidents")
    expect(page.get_by_text("Nothing is wrong that we know of")).to_be_visible()
    kill_one(watched)
    # The page learns of it by itself, while somebody looks.
    page.get_by_role("link", name=re.compile("production: an instance is down")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("P1 · production: an instance is down")
    expect(page.locator(".timeline")).to_contain_text("L1 pages Bob by pagerduty")
    expect(page.locator(".timeline")).to_contain_text("accepted by PagerDuty")
    expect(page.locator(".countdown time[data-countdown]").first).to_have_text(re.compile(r"1[34]:\d\d"))
    recorder.wait_for(1)
    assert recorder.messages[0]["body"]["event_action"] == "trigger"
    assert KEY not in page.content()
    assert EnvironmentLock.objects.filter(environment__slug="production", released_at=None).count() == 1

    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".incident-head")).not_to_contain_text("unacknowledged")
    expect(page.locator(".timeline")).to_contain_text("1 level will not be paged")
    assert set(Level.objects.values_list("state", flat=True)) == {"fired", "cancelled"}

    page.get_by_label("A note").fill("production-1 was killed. <b>Not</b> a deployment.")
    page.get_by_role("button", name="Add the note").click()
    expect(page.locator(".timeline")).to_contain_text("<b>Not</b> a deployment")
    page.get_by_role("button", name="Severity assessed (P1–P4)").click()
    expect(page.locator(".timeline")).to_contain_text("Severity assessed (P1–P4)")

    page.get_by_label("What resolved it").fill("Started the instance again.")
    page.get_by_role("button", name="Resolve").click()
    expect(page.locator(".incident-head")).to_contain_text("resolved")
    assert not EnvironmentLock.objects.filter(released_at=None).exists()
    assert wait_until(Postmortem.objects.exists, 40)
    page.get_by_role("link", name="Post-mortem", exact=True).first.click()
    expect(page.locator("main")).to_contain_text("Started the instance again")
    recorder.wait_for(3)
    actions = [message["body"]["event_action"] for message in recorder.messages]
    assert actions == ["trigger", "acknowledge", "resolve"]


def test_acknowledging_from_a_telephone_by_the_link_of_the_message(
    company: Company, watched: Placement, recorder: Provider, open_as: Open
) -> None:
    kill_one(watched)
    recorder.wait_for(1)
    link = recorder.messages[0]["body"]["payload"]["custom_details"]["acknowledge"]
    address = "/ack/" + link.rpartition("/ack/")[2]
    telephone = open_as(None, address, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert Incident.objects.get().state == Incident.State.OPEN, "looking is not acknowledging"
    telephone.get_by_role("button", name="Acknowledge as Bob").click()
    expect(telephone.locator("main")).to_contain_text("You have it")
    assert Incident.objects.get().acknowledged_by_name == "Bob"


def test_two_people_break_the_glass_of_a_p1(
    company: Company, watched: Placement, recorder: Provider, open_as: Open
) -> None:
    kill_one(watched)
    assert wait_until(Incident.objects.exists, 30)
    alice = open_as(company.alice, f"/incidents/{Incident.objects.get().pk}")
    alice.locator("summary", has_text="Break glass").click()
    alice.get_by_label("Why can it not wait").fill("the fix is 1.5.0")
    alice.get_by_role("button", name="Ask; a second person confirms").click()
    expect(alice.get_by_text("asks to break the glass: the fix is 1.5.0")).to_be_visible()
    expect(alice.get_by_role("button", name="Confirm: open it")).to_have_count(0)
    bob = open_as(company.bob, f"/incidents/{Incident.objects.get().pk}")
    bob.get_by_role("button", name="Confirm: open it for an hour").click()
    expect(bob.locator(".held").get_by_text("glass broken")).to_be_visible()
    assert not EnvironmentLock.objects.filter(environment__slug="production", released_at=None).exists()


def test_without_a_script_one_can_report_acknowledge_and_resolve(company: Company, open_as: Open) -> None:
    page = open_as(company.alice, "/incidents", java_script_enabled=False)
    page.get_by_role("link", name="Report an incident").click()
    page.get_by_label("What is wrong").fill("checkout is slow")
    page.get_by_label("Staging").check()
    page.get_by_role("button", name="Open it and tell people").click()
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_label("What resolved it").fill("it was the test data")
    page.get_by_role("button", name="Resolve").click()
    expect(page.locator(".incident-head")).to_contain_text("resolved")


def test_what_happens_while_the_page_is_on_its_way_is_on_it(company: Company, open_as: Open) -> None:
    """Between the page and its stream lies a moment, and news that nobody hears then is told when the stream opens."""
    opened, _ = lifecycle.open_incident(
        Actor(company.alice).who, title="checkout is slow", severity=Severity.P4, environments=["staging"]
    )
    page = open_as(company.alice, "/incidents")
    held: list[Route] = []
    page.route("**/live/news?heard=*", lambda route: held.append(route))  # noqa: PLW0108 (it marks the function)
    with page.expect_request("**/live/news?heard=*"):
        page.goto(f"/incidents/{opened.pk}")
    expect(page.locator(".incident-head")).to_contain_text("unacknowledged")
    lifecycle.acknowledge(opened.pk, Actor(company.bob).who)
    expect(page.locator("#live")).not_to_have_text("live")
    held[0].continue_()
    expect(page.locator(".incident-head")).not_to_contain_text("unacknowledged")
