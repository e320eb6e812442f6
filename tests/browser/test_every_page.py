"""Every page: nothing for axe to find in light and dark, fit for a phone, and of use without a script."""

import re
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Role
from controlplane.accounts.tokens import create_token
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from environments.locks import take
from tests.browser.canaries import compared
from tests.browser.company import Company, backed_up, finished, in_doubt
from tests.browser.conftest import Open
from tests.browser.recovering import recovered
from tests.browser.rules import ruled, trusted
from tests.browser.stopped import broken_glass, stopped
from tests.browser.trouble import troubled

ALL_RULES = {"resultTypes": ["violations"]}
# Nothing else is another in the dark.
RULES_OF_COLOUR = {**ALL_RULES, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
SCHEMES: tuple[tuple[Literal["light", "dark"], dict[str, Any]], ...] = (("light", ALL_RULES), ("dark", RULES_OF_COLOUR))
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def pages(company: Company) -> list[str]:
    """The address of every page, with something on each. Bob may see them all."""
    Grant.objects.filter(person=company.bob).update(role=Role.ADMIN)
    create_token(company.bob, "pipeline", Role.OPERATOR, 30, Actor(company.bob).who)
    company.bring("production", "1.5.0")
    failed = finished(company.ask("production", "1.6.0", "new search"))
    waits = company.ask("production", "1.4.0", "a rather long reason, " * 8, approve=False)
    doubt = in_doubt(company.bring("development", "1.4.0"))
    take(Actor(company.alice), company.environment("dr"), "failover drill on Thursday")
    release = company.releases["1.4.0"]
    return [
        *backed_up(company),
        *troubled(company),
        *recovered(company),
        *compared(company),
        *ruled(company, waits),
        "/",
        "/approvals",
        "/deployments",
        "/deployments?q=nothing-like-it",
        "/releases",
        release.get_absolute_url(),
        "/environments/production",
        "/environments/dr",
        "/environments/production/deploy",
        f"/environments/production/deploy?release={release.pk}",
        f"/environments/dr/deploy?release={release.pk}",
        "/environments/production/rollback/pitchey-backend",
        failed.get_absolute_url(),
        f"{failed.get_absolute_url()}/log?q=503",
        waits.get_absolute_url(),
        doubt.get_absolute_url(),
        "/promotion",
        "/promotion/pitchey-backend",
        "/deployments/numbers",
        "/deployments/calendar",
        trusted(company),
        "/deployments/calendar?view=week",
        "/environments/production/adopt/pitchey-backend",
        "/audit",
        "/people",
        "/people/add",
        f"/people/{company.alice.pk}",
        "/tokens",
        "/password",
        broken_glass(company),
        *stopped(company),
    ]


@pytest.mark.timeout(900)  # a hundred pages
def test_axe_finds_nothing(company: Company, pages: list[str], open_as: Open) -> None:
    page = open_as(company.bob, reduced_motion="reduce")  # or colours are read on their way to others
    found = []
    for address in pages:
        page.goto(address)
        page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
        for scheme, options in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            results = Axe().run(page, options=options)
            if results.violations_count:
                found.append(f"{address}, {scheme}\n{results.generate_report()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_one_signs_in(company: Company, open_as: Open, scheme: str) -> None:
    results = Axe().run(open_as(None, "/", color_scheme=scheme))
    assert not results.violations_count, results.generate_report()


@pytest.mark.timeout(900)
def test_a_phone_never_scrolls_sideways(company: Company, pages: list[str], open_as: Open) -> None:
    page = open_as(company.bob, **PHONE)
    for address in pages:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, address
        assert _too_small(page) == [], address


def _too_small(page: Page) -> list[str]:
    """Buttons that a thumb would miss."""
    return [
        button.inner_text()
        for button in page.locator("main .btn:visible, main summary.btn:visible").all()
        if (button.bounding_box() or {"height": 44})["height"] < 34
    ]


def test_without_a_script(company: Company, open_as: Open) -> None:
    alice = open_as(company.alice, java_script_enabled=False)
    alice.locator(".matrix tbody tr:first-child td:nth-of-type(3)").get_by_role("link", name="Deploy").click()
    alice.get_by_role("link", name="Plan 1.5.0").click()
    alice.get_by_label("Reason").fill("no script here")
    alice.get_by_label("Type production").fill("production")
    alice.get_by_role("button", name="Ask for the deployment").click()
    alice.wait_for_url(re.compile(r"/operations/\d+$"))
    bob = open_as(company.bob, java_script_enabled=False)
    bob.get_by_role("link", name="Approvals").click()
    bob.get_by_role("link", name="Deploy pitchey-backend 1.5.0 to production").click()
    bob.get_by_role("button", name="Approve this plan").click()
    operation = finished(Operation.objects.latest("pk"))
    assert operation.state == State.SUCCEEDED
    alice.reload()
    expect(alice.locator("#_head")).to_contain_text("succeeded")
    alice.get_by_label("Search the log").fill("started 1.5.0")
    alice.get_by_label("Search the log").press("Enter")
    expect(alice.get_by_role("region", name="Log")).to_contain_text("production-3: started 1.5.0")
