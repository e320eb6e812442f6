"""Recovery in the browser, with two real databases, two sites and a name: a drill, a failover by three, and home."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Page, expect

from backups.disaster.base import Side
from backups.disaster.databases.postgres_standby import request_file
from backups.disaster.services import set_clock
from backups.disaster.traffic.local import LocalTraffic, address_of
from backups.models import Recovery, RecoveryPlan
from controlplane.accounts.models import Person
from controlplane.embedded import name_switch
from controlplane.embedded.processes import wait_until
from controlplane.operations.models import Operation
from environments.addresses import NoAnswer, get
from environments.models import Environment
from tests.browser.company import Company
from tests.browser.conftest import Open
from tests.disaster.clusters import DATABASE, ROLE, Pair, Writer, pair
from tests.environments.fleet import Worker

__all__ = ["pair"]
NAME = "api.pitchey.com"
NEWEST = "SELECT coalesce(max(at), 'epoch') FROM orders"
END = 90_000  # milliseconds until a recovery has ended
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def sites(company: Company, pair: Pair) -> Iterator[RecoveryPlan]:
    """Production serves people behind a name, DR follows; whoever runs the embedded servers is at work."""
    for slug, server in (("production", pair.primary), ("dr", pair.standby)):
        secret = Path(settings.DATA_DIR) / "secrets" / slug / "orders-url"
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text(server.url_of(DATABASE))
    Environment.objects.filter(slug="production").update(driver_settings=company.environment("dr").driver_settings)
    traffic = LocalTraffic()
    here, there = (Side(slug, {"name": NAME, "ttl": 0.05}) for slug in ("production", "dr"))
    for step in traffic.switch(there, here).open:
        traffic.steps[step.function].act(Worker(), **step.arguments)
    stopping = threading.Event()
    tending = threading.Thread(target=_tend, args=(pair, stopping))
    tending.start()
    command = [sys.executable, "-I", "-S", name_switch.__file__, "--folder", str(settings.DATA_DIR)]
    switch = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: served_by() == "production", 40)
        yield _plan(company)
    finally:
        switch.kill()
        switch.wait()
        stopping.set()
        tending.join()
        (Path(settings.DATA_DIR) / "names.json").unlink()


def _tend(pair: Pair, stopping: threading.Event) -> None:
    while not stopping.wait(0.1):
        if request_file("dr").exists():
            pair.standby.renew()
            request_file("dr").unlink()


def _plan(company: Company) -> RecoveryPlan:
    plan = RecoveryPlan.objects.create(
        slug="main", name="Production to DR", primary=company.environment("production"),
        standby=company.environment("dr"), services={"pitchey-backend": 1},
        traffic={"kind": "local", "name": NAME, "ttl": 0.05},
        database={
            "kind": "postgres", "roles": [ROLE], "newest": NEWEST,
            "primary": {"database": "file:production/orders-url"},
            "standby": {"database": "file:dr/orders-url", "rebuild": "embedded"},
        },
        checks=[{"name": "there are orders", "sql": "SELECT count(*) > 0 FROM orders"}],
    )  # fmt: skip
    set_clock(plan)
    return plan


def served_by() -> str:
    """Which site answers people now; "" for none."""
    try:
        answer = get(f"{address_of(NAME)}/health")
    except NoAnswer:
        return ""
    return answer.headers.get("x-site", "") if answer.status == 200 else ""


def approve(page: Page, operation: Operation) -> None:
    """Read its page, and say yes."""
    page.goto(f"/recovery/runs/{operation.pk}")
    expect(page.get_by_role("heading", name="Read the plan, then approve it")).to_be_visible()
    page.get_by_role("button", name="Approve this plan").click()
    expect(page.get_by_role("heading", name="Read the plan, then approve it")).to_have_count(0)


def ask(page: Page, name: str, button: str) -> Operation:
    """Fill in the form of a failover, or of the way home; returns what was asked for."""
    page.get_by_label("What you see", exact=False).fill("All probes are red, and I saw the smoke")
    page.get_by_label("Reason", exact=False).fill("the region is down")
    page.get_by_label(f"Type {name}", exact=False).fill(name)
    page.get_by_role("button", name=button).click()
    expect(page).to_have_url(re.compile(r"/recovery/runs/\d+$"))
    return Operation.objects.get(pk=int(page.url.rpartition("/")[2]))


def good_to_see(page: Page) -> None:
    """Nothing for axe in light and dark, and nothing that has to be pushed sideways on a phone."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate("Promise.allSettled(document.getAnimations().map((one) => one.finished))")  # colours that fade
        results = Axe().run(page)
        assert not results.violations_count, f"{page.url} ({scheme})\n{results.generate_report()}"
    page.set_viewport_size({"width": 390, "height": 844})
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1360, "height": 850})
    page.emulate_media(color_scheme="light")
    assert wide <= 390, f"{page.url} is {wide} px wide"


def test_a_drill_from_the_overview_to_its_report(
    sites: RecoveryPlan, company: Company, open_as: Open, pair: Pair
) -> None:
    with Writer(pair.primary) as customers:
        pass
    assert wait_until(lambda: customers.acknowledged <= pair.ids(pair.standby), 40)
    page = open_as(company.alice, "/recovery")
    good_to_see(page)
    page.get_by_text("Start a drill…").click()
    page.get_by_label("Why").fill("monthly")
    page.get_by_role("button", name="Start the drill").click()
    done = page.get_by_role("heading", name="It works: rehearsed and cleaned up")
    expect(done).to_be_visible(timeout=END)
    good_to_see(page)
    page.get_by_role("link", name="Read the report").click()
    good_to_see(page)
    page.emulate_media(media="print")
    expect(page.get_by_role("heading", name="Promises")).to_be_visible()
    expect(page.get_by_role("navigation").first).to_be_hidden()
    assert len(page.pdf()) > 10_000
    page.goto("/recovery/main/drills")
    expect(page.get_by_role("row").nth(1)).to_contain_text("Alice")
    assert served_by() == "production"


def test_a_failover_by_three_and_home_again(
    sites: RecoveryPlan, company: Company, open_as: Open, pair: Pair, ada: Person
) -> None:
    alice, bob, carried = open_as(company.alice, "/recovery/main"), open_as(company.bob), open_as(ada, **PHONE)
    with Writer(pair.primary) as old:
        alice.get_by_role("link", name="Fail over…").click()
        good_to_see(alice)
        away = ask(alice, "production", "Ask for the failover")
        expect(alice.get_by_role("heading", name="Wait for 2 more approvals")).to_be_visible()
        approve(bob, away)
        expect(alice.get_by_role("heading", name="Wait for 1 more approval")).to_be_visible()
        assert served_by() == "production", "one of two is not enough"
        approve(carried, away)
        expect(alice.get_by_role("heading", name="DR serves people")).to_be_visible(timeout=END)
    assert served_by() == "dr"
    assert old.acknowledged <= pair.ids(pair.standby)
    hands = alice.get_by_role("region", name="Who is in")
    for name in ("Alice", "Bob", "Ada", "I saw the smoke"):
        expect(hands).to_contain_text(name)
    good_to_see(alice)
    with Writer(pair.standby, start=10**6) as there:
        alice.get_by_role("link", name="Bring it home…").click()
        good_to_see(alice)
        home = ask(alice, "dr", "Ask to bring it home")
        approve(bob, home)
        approve(carried, home)
        expect(alice.get_by_role("heading", name="Production serves people")).to_be_visible(timeout=END)
    assert served_by() == "production"
    assert old.acknowledged | there.acknowledged <= pair.ids(pair.primary)
    assert list(Recovery.objects.order_by("pk").values_list("fence_proven", flat=True)) == [True, True]
    alice.goto("/recovery/main")
    expect(alice.get_by_role("link", name="Fail over…")).to_be_visible()
    good_to_see(alice)
