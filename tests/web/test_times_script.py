"""time.js says the same words as the server, so nothing changes its wording a second after the page came."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page

from controlplane.web.templatetags import ui
from tests.web.conftest import Site

pytestmark = pytest.mark.browser

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECONDS = [0, 1, 4, 5, 9, 41, 59, 60, 61, 119, 120, 3599, 3600, 3661, 10_200, 86_399, 86_400, 172_800, 273_600, 10**7]


def test_the_words_are_the_servers(site: Site, page: Page) -> None:
    site.page("/page", "")
    page.goto("/page")

    def words(way: str, seconds: list[int]) -> list[str]:
        said: list[str] = page.evaluate("([way, all]) => all.map((s) => timeWords(way, s))", [way, seconds])
        return said

    both = SECONDS + [-seconds for seconds in SECONDS]
    assert words("ago", both) == [ui.ago(NOON - timedelta(seconds=seconds), NOON) for seconds in both]
    assert words("since", SECONDS) == [ui.duration(seconds) for seconds in SECONDS]
    assert words("countdown", [-161, -3601, 5]) == ["02:41", "1:00:01", "00:00"]


def test_time_goes_on_by_the_servers_clock(site: Site, page: Page) -> None:
    page.clock.install(time=datetime(2020, 1, 1, tzinfo=UTC))  # the reader's clock is wrong by years
    source = '<time id="t" data-since datetime="{{ began }}">1 m 48 s</time>'
    site.page("/page", source, began=(datetime.now(UTC) - timedelta(seconds=108)).isoformat())
    page.goto("/page")
    page.clock.run_for(60_000)
    assert page.locator("#t").inner_text().replace("\u00a0", " ") in {"2 m 47 s", "2 m 48 s", "2 m 49 s"}
