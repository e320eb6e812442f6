"""Every component, in both colours, wide and narrow: readable for everybody, and nothing sticks out."""

from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize

from tests.web import components
from tests.web.conftest import Site

pytestmark = pytest.mark.browser

Scheme = Literal["light", "dark"]
SMALL_TARGETS = """[...document.querySelectorAll('.top a, .top button, main .btn, main input, main select, .now a')]
  .filter(e => e.offsetParent && e.type !== 'checkbox' && e.getBoundingClientRect().height < 40)
  .map(e => e.outerHTML.slice(0, 90) + Math.round(e.getBoundingClientRect().height))"""


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    value: Scheme = request.param
    return value


@pytest.fixture(params=[1360, 760, 390])
def gallery(request: pytest.FixtureRequest, chromium: Browser, site: Site, scheme: Scheme) -> Any:
    site.page("/deployments", components.BODY, **components.context())
    size = ViewportSize(width=request.param, height=844)
    context = chromium.new_context(base_url=site.address, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/deployments")
    yield page
    context.close()


def test_axe_finds_nothing(gallery: Page) -> None:
    found = Axe().run(gallery).response["violations"]
    assert [(rule["id"], node["html"][:120]) for rule in found for node in rule["nodes"]] == []


def test_nothing_scrolls_sideways(gallery: Page) -> None:
    assert gallery.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_thumb_can_press_it(gallery: Page) -> None:
    if gallery.evaluate("innerWidth") == 390:
        assert gallery.evaluate(SMALL_TARGETS) == []


def test_on_a_phone_the_matrix_is_a_card_an_environment(chromium: Browser, site: Site) -> None:
    site.page("/", components.BODY, **components.context())
    page = chromium.new_page(base_url=site.address, viewport={"width": 390, "height": 844})
    page.goto("/")
    tops = page.evaluate(
        "[...document.querySelectorAll('.matrix thead th:not(:first-child), .matrix td')]"
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map(e => e.localName)"
    )
    page.close()
    assert tops == ["th", "td", "td"] * 4


def test_without_javascript_the_system_chooses_the_colours(chromium: Browser, site: Site) -> None:
    site.page("/", "words")
    seen = {}
    for scheme in ("light", "dark"):
        context = chromium.new_context(base_url=site.address, java_script_enabled=False, color_scheme=scheme)
        page = context.new_page()
        page.goto("/")
        shot = page.locator("main").screenshot()
        seen[scheme] = hash(shot)
        context.close()
    assert seen["light"] != seen["dark"]
