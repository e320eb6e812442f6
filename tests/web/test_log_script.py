"""log.js: a log of any length opens at its end, and the reader's place is the reader's."""

import threading

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import Query, Site, Wire
from tests.web.test_live_script import STREAM, line

pytestmark = pytest.mark.browser

LAST = 1000
PANE = ".log[data-log-url]"


def part(query: Query) -> str:
    """The played log has 1,000 lines; those that can be divided by 100 say so."""
    if "before" in query:
        low, high = int(query["before"]) - 200, int(query["before"])
    elif "after" in query:
        low, high = int(query["after"]) + 1, int(query["after"]) + 201
    elif "around" in query:
        low, high = int(query["around"]) - 100, int(query["around"]) + 100
    elif "q" in query:
        return "".join(line(n, "hundred") for n in range(100, LAST + 1, 100)) if query["q"] == "hundred" else ""
    else:
        low, high = LAST - int(query["tail"]) + 1, LAST + 1
    return "".join(line(n) for n in range(max(1, low), min(high, LAST + 1)))


@pytest.fixture
def log(site: Site, page: Page) -> Page:
    """A page with the last 100 of 1,000 lines, and a stream that says a line more whenever `more` is asked for."""
    lines = "".join(line(number) for number in range(901, LAST + 1))
    body = f'{{% include "web/_log.html" with lines=lines|safe total={LAST} log_url="/log" download_url="/log.txt" %}}'
    site.page("/page", body, lines=lines, blocks=STREAM)
    site.html("/log", part)
    site.answers["/live/operations/7"] = lambda _query, wire: hold(wire)
    return page


def hold(wire: Wire) -> None:
    wire.begin()
    threading.Event().wait(5)


SAY = "html => document.getElementById('log').dispatchEvent(new CustomEvent('lines', { detail: html }))"


def say(page: Page, number: int, count: int = 1) -> None:
    html = "".join(line(n) for n in range(number, number + count))
    page.evaluate(SAY, html)


def at_end(page: Page) -> bool:
    return bool(page.eval_on_selector(PANE, "pane => pane.scrollHeight - pane.scrollTop - pane.clientHeight < 2"))


def scroll(page: Page, top: int) -> None:
    page.eval_on_selector(PANE, "(pane, top) => { pane.scrollTop = top; }", top)


def test_it_opens_at_its_end_and_follows(log: Page) -> None:
    log.goto("/page")
    assert at_end(log)
    say(log, 1001, 50)
    expect(log.locator("#L1050")).to_be_in_viewport()
    expect(log.locator("#log-count")).to_have_text("1,050 lines")
    assert at_end(log)


def test_new_lines_wait_while_one_reads_above(log: Page) -> None:
    log.goto("/page")
    scroll(log, 600)
    expect(log.locator("[data-log-follow]")).to_have_attribute("aria-pressed", "false")
    say(log, 1001, 3)
    expect(log.locator("[data-log-new]")).to_have_text("3 new lines")
    assert log.eval_on_selector(PANE, "pane => pane.scrollTop") == 600
    log.click("[data-log-new]")
    expect(log.locator("#L1003")).to_be_in_viewport()
    expect(log.locator("[data-log-new]")).to_be_hidden()


def test_earlier_lines_come_when_one_reaches_the_top_and_nothing_jumps(log: Page) -> None:
    log.goto("/page")
    scroll(log, 100)
    before = log.locator("#L910").bounding_box()
    expect(log.locator("#L701")).to_be_attached()
    after = log.locator("#L910").bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2


def test_it_can_be_read_to_its_beginning(log: Page) -> None:
    log.goto("/page")
    for first in (701, 501, 301, 101, 1):
        scroll(log, 0)
        expect(log.locator(f"#L{first}")).to_be_attached()
    assert log.locator("#log li").count() == LAST


def test_a_link_opens_at_its_line(log: Page) -> None:
    log.goto("/page#L500")
    expect(log.locator("#L500")).to_have_class("target")
    expect(log.locator("#L500")).to_be_in_viewport()
    scroll(log, 10**6)
    expect(log.locator("#L700")).to_be_attached()  # and goes on below
    log.click("[data-log-follow]")
    expect(log.locator("#L1000")).to_be_in_viewport()


def test_what_is_found_links_to_its_place(log: Page) -> None:
    log.goto("/page")
    log.fill("[data-log-search] input", "hundred")
    log.keyboard.press("Enter")
    expect(log.locator("[data-log-found] p")).to_have_text("10 lines with “hundred”; a number opens its place.")
    log.click("[data-log-found] a >> text=/^300$/")
    expect(log.locator("#L300")).to_be_in_viewport()
    log.fill("[data-log-search] input", "nothing of the kind")
    log.keyboard.press("Enter")
    expect(log.locator("[data-log-found]")).to_have_text("No line has “nothing of the kind”.")


def test_the_page_stays_small_while_it_follows(log: Page) -> None:
    log.goto("/page")
    for start in range(1001, 9001, 2000):
        say(log, start, 2000)
    assert log.locator("#log li").count() == 5000
    expect(log.locator("#log li").first).to_have_id("L4001")
    assert at_end(log)
