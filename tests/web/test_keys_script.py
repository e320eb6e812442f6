"""Everything can be reached without a mouse."""

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import Site

pytestmark = pytest.mark.browser

BODY = """<form><input type="search" aria-label="Search"></form>
<ul class="rows"><li><a href="/one">one</a></li><li>no link</li><li><a href="/two">two</a></li></ul>
<button data-approve>Approve</button>"""


@pytest.fixture
def keys(site: Site, page: Page) -> Page:
    site.page("/page", BODY)
    site.page("/deployments", '<input type="search" id="search" aria-label="Search">')
    page.goto("/page")
    return page


def test_slash_searches_and_escape_leaves(keys: Page) -> None:
    keys.keyboard.press("/")
    expect(keys.locator("input[type=search]")).to_be_focused()
    keys.keyboard.type("g d ?")
    expect(keys.locator("input[type=search]")).to_have_value("g d ?")
    keys.keyboard.press("Escape")
    expect(keys.locator("input[type=search]")).not_to_be_focused()


def test_g_goes(keys: Page) -> None:
    keys.keyboard.press("g")
    keys.keyboard.press("d")
    keys.wait_for_url("**/deployments")


def test_j_and_k_walk_the_rows(keys: Page) -> None:
    for key, row in (("j", "one"), ("j", "two"), ("j", "two"), ("k", "one")):
        keys.keyboard.press(key)
        expect(keys.get_by_role("link", name=row, exact=True)).to_be_focused()


def test_a_only_goes_to_the_approval(keys: Page) -> None:
    keys.keyboard.press("a")
    expect(keys.locator("[data-approve]")).to_be_focused()


def test_question_mark_shows_the_keys(keys: Page) -> None:
    keys.keyboard.press("?")
    expect(keys.get_by_role("dialog", name="Keys")).to_be_visible()
    keys.keyboard.press("Escape")
    expect(keys.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_the_colours_change_without_a_reload(keys: Page) -> None:
    keys.click("text=alice")
    keys.click("button:text-is('Dark')")
    assert keys.evaluate("[document.documentElement.dataset.bsTheme, document.cookie]") == ["dark", "theme=dark"]
    expect(keys.locator("button:text-is('Dark')")).to_have_attribute("aria-pressed", "true")
    keys.click("button:text-is('Auto')")
    assert keys.evaluate("'bsTheme' in document.documentElement.dataset") is False
