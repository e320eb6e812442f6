"""The journey: Alice asks, Bob approves, everybody watches, history stays; then what goes wrong, and back."""

import re

from django.contrib.auth.hashers import make_password
from playwright.sync_api import Page, expect

from controlplane.accounts.models import Person
from controlplane.operations.models import Operation
from controlplane.operations.states import State
from environments.models import Environment
from tests.browser.company import SEEN, Company, finished, in_doubt
from tests.browser.conftest import Open

COLUMN = 3  # production, among development, staging, production and DR


def cell(board: Page) -> str:
    return f".matrix tbody tr:first-child td:nth-of-type({COLUMN})"


def sign_in(page: Page, person: Person) -> None:
    """By the form, with a password as the web process knows them; leads to the board."""
    person.password = make_password("a long and quiet password", hasher="pbkdf2_sha256")
    person.save()
    page.get_by_label("Name").fill(person.username)
    page.get_by_label("Password").fill("a long and quiet password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Environments")


def request_from_board(page: Page, version: str, reason: str) -> None:
    """From the board through the choice of a release and its plan to the request."""
    page.locator(cell(page)).get_by_role("link", name="Deploy").click()
    page.get_by_role("link", name=f"Plan {version}").click()
    expect(page.get_by_role("heading", name="The plan")).to_be_visible()
    page.get_by_label("Reason").fill(reason)
    page.get_by_label("Type production").fill("production")
    page.get_by_role("button", name="Ask for the deployment").click()
    page.wait_for_url(re.compile(r"/operations/\d+$"))


def test_alice_asks_bob_approves_and_everybody_watches(company: Company, open_as: Open) -> None:
    # Each instance takes long enough to be seen at it, however busy the machine is.
    Environment.objects.filter(slug="production").update(driver_settings={**SEEN, "drain_seconds": 3})
    alice = open_as(None)
    sign_in(alice, company.alice)
    bob = open_as(company.bob)
    board = open_as(company.alice)
    watched: list[str] = []
    for page in (alice, bob, board):
        page.on("framenavigated", lambda frame: watched.append(frame.url))

    # The plan: each step, each instance, from which digest to which; the gates; nothing runs.
    alice.locator(cell(alice)).get_by_role("link", name="Deploy").click()
    alice.get_by_role("link", name="Plan 1.5.0").click()
    for number in (1, 2, 3):
        expect(alice.get_by_role("heading", name=f"production-{number}", exact=False).first).to_contain_text("1.5.0")
    for gate in ("Has run in staging", "CI passed", "No lock", "Nobody else is changing it"):
        expect(alice.locator(".gates")).to_contain_text(gate)
    alice.get_by_role("button", name="Ask for the deployment").click()
    expect(alice.get_by_label("Reason")).to_be_focused()  # it wants a reason
    alice.get_by_label("Reason").fill("checkout fix, OPS-214")
    alice.get_by_label("Type production").fill("production")
    alice.get_by_role("button", name="Ask for the deployment").click()
    alice.wait_for_url(re.compile(r"/operations/\d+$"))
    operation = Operation.objects.latest("pk")
    expect(alice.locator("#_head")).to_contain_text("waits for approval")
    expect(alice.locator("#_actions")).to_contain_text("somebody else has to approve it")
    expect(alice.get_by_role("button", name="Approve this plan")).to_have_count(0)

    # Bob's inbox counts it without a reload, the board says that it waits.
    expect(bob.locator("#_nav_counts")).to_contain_text("1")
    expect(board.locator("#_board .now")).to_contain_text("waits for an approval")
    bob.get_by_role("link", name="Approvals").click()
    bob.get_by_role("link", name="Deploy pitchey-backend 1.5.0 to production").click()
    expect(bob.locator(".what")).to_contain_text("take out of rotation")
    bob.get_by_label("Your word").fill("plan read")
    bob.get_by_role("button", name="Approve this plan").click()

    # Progress, steps and log move on both people's pages, and on the board, without a reload.
    watched.clear()
    for page in (alice, bob):
        expect(page.locator("#_head")).to_contain_text("running")
        expect(page.locator("#_head")).to_contain_text("production-2, 2 of 3")
        expect(page.locator("#_rail li[aria-current]").first).to_be_visible()
        expect(page.locator("#log")).to_contain_text("production-1: started 1.5.0")
        expect(page.locator("#_actions")).to_contain_text("Safe to stop")
    expect(board.locator("#_board .now progress")).to_have_count(1)
    for page in (alice, bob):
        expect(page.locator("#_head")).to_contain_text("succeeded")
        expect(page.locator("#_head progress")).to_have_attribute("value", "100")
        expect(page.locator("#_head")).to_contain_text("approved by")
    expect(board.locator(cell(board))).to_contain_text("1.5.0")
    expect(board.locator(".rows li").first).to_contain_text("succeeded")
    assert [url for url in watched if "/operations/" in url and not url.endswith(str(operation.pk))] == []
    numbers = [
        int(line.removeprefix("L")) for line in alice.locator("#log li").evaluate_all("all => all.map(l => l.id)")
    ]
    operation.refresh_from_db()
    assert numbers == list(range(1, operation.last_seq + 1))

    # History.
    alice.goto("/deployments?environment=production")
    expect(alice.locator(".list tbody tr").first).to_contain_text("1.4.0 → 1.5.0")


def test_a_bad_release_is_put_back_and_says_why(company: Company, open_as: Open) -> None:
    alice = open_as(company.alice)
    request_from_board(alice, "1.6.0", "new search")
    bob = open_as(company.bob, Operation.objects.latest("pk").get_absolute_url())
    bob.keyboard.press("a")
    expect(bob.get_by_role("button", name="Approve this plan")).to_be_focused()
    bob.keyboard.press("Enter")
    for page in (alice, bob):
        expect(page.locator("#_head")).to_contain_text("failed, put back")
        expect(page.locator("#_head .notice")).to_contain_text("503")
        expect(page.locator("#_head .notice")).to_contain_text("Never touched: production-2, production-3")
    board = open_as(company.alice)
    expect(board.locator(cell(board))).to_contain_text("1.4.0")
    expect(board.locator(".rows li").first).to_contain_text("failed, put back")


def test_a_rollback_is_two_clicks_from_the_board_and_keeps_its_reason(company: Company, open_as: Open) -> None:
    company.bring("production", "1.5.0")
    alice = open_as(company.alice)
    alice.locator(cell(alice)).get_by_role("link", name="Roll back").click()
    expect(alice.get_by_role("heading", level=1)).to_have_text("Roll back pitchey-backend to 1.4.0 in production")
    alice.get_by_label("Reason").fill("checkout is slow")
    alice.get_by_label("Type production").fill("production")
    alice.get_by_role("button", name="Ask for the rollback").click()
    expect(alice.locator("#_head")).to_contain_text("“checkout is slow”")
    bob = open_as(company.bob, alice.url)
    bob.get_by_role("button", name="Approve this plan").click()
    expect(alice.locator("#_head")).to_contain_text("succeeded")
    alice.goto("/")
    expect(alice.locator(cell(alice))).to_contain_text("1.4.0")


def test_a_stop_waits_for_the_safe_point_it_names(company: Company, open_as: Open) -> None:
    Environment.objects.filter(slug="production").update(driver_settings={**SEEN, "drain_seconds": 3})
    operation = company.ask("production", "1.5.0", "checkout fix")
    alice = open_as(company.alice, operation.get_absolute_url())
    expect(alice.locator("#_actions")).to_contain_text("Safe to stop: before production-2")
    alice.get_by_text("Stop at safe point…").click()
    alice.get_by_label("Why you stop it").fill("wrong window")
    alice.get_by_role("button", name="Stop at safe point").click()
    expect(alice.locator("#_head")).to_contain_text("cancelled")
    expect(alice.locator("#_head .notice")).to_contain_text("stopped by Alice before production-2: wrong window")
    expect(alice.locator("#_head .notice")).to_contain_text("Never touched: production-2, production-3")
    assert finished(operation).state == State.CANCELLED


def test_a_second_deployment_waits_in_a_queue_that_one_sees(company: Company, open_as: Open) -> None:
    first = company.ask("production", "1.5.0", "first")
    second = company.ask("production", "1.4.0", "second, right behind")
    waiting = open_as(company.bob, second.get_absolute_url())
    expect(waiting.locator("#_head")).to_contain_text(f"Waits in the queue, behind operation {first.pk}")
    place = open_as(company.bob, "/environments/production")
    expect(place.locator("#queue-title")).to_be_visible()
    expect(place.locator("#_environment")).to_contain_text("Deploy pitchey-backend 1.4.0 to production")
    expect(waiting.locator("#_head")).to_contain_text("succeeded")
    assert finished(first).finished_at <= finished(second).started_at  # type: ignore[operator]


def test_a_doubt_is_answered_and_the_operation_goes_on(company: Company, open_as: Open) -> None:
    operation = in_doubt(company.bring("development", "1.4.0"))
    alice = open_as(company.alice, operation.get_absolute_url())
    expect(alice.locator("#_actions")).to_contain_text("A person has to say what is true")
    expect(alice.locator("#_actions")).to_contain_text("Look at host 1.")
    alice.get_by_label("it is done, go on").check()
    alice.get_by_label("How you know").fill("I looked at host 1")
    alice.get_by_role("button", name="Answer").click()
    expect(alice.locator("#_head")).to_contain_text("succeeded")
    expect(alice.locator("#log")).to_contain_text("Alice answers for verify from outside: it is done, go on")
    assert finished(operation).state == State.SUCCEEDED


def test_a_stop_asked_for_over_a_doubt_waits_for_its_answer(company: Company, open_as: Open) -> None:
    operation = in_doubt(company.bring("development", "1.4.0"))
    alice = open_as(company.alice, operation.get_absolute_url())
    alice.get_by_text("Stop after the answer…").click()
    alice.get_by_label("Why you stop it").fill("wrong window")
    alice.get_by_role("button", name="Stop after the answer").click()
    expect(alice.locator("#_actions")).to_contain_text("it stops at the next safe point")
    expect(alice.locator("#_actions")).to_contain_text("wrong window")
