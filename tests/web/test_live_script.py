"""live.js keeps the page true through whatever happens to its stream."""

import threading

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import Query, Site, Wire

pytestmark = pytest.mark.browser

STREAM = "{% block stream %}/live/operations/7{% endblock %}"
COUNT_NEWS = """window.heard = [];
for (const name of ['news', 'news-health']) document.body.addEventListener(name, () => heard.push(name))"""
SET_HIDDEN = """hidden => {
  Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def line(number: int, text: str = "said") -> str:
    return f'<li id="L{number}"><a href="#L{number}">{number}</a><time></time><span>{text} {number}</span></li>'


class Script:
    """Plays a stream: each connection takes the next part; a part is a function, or a status to refuse with."""

    def __init__(self, *parts: object) -> None:
        self.parts = list(parts)
        self.done = threading.Event()

    def __call__(self, _query: Query, wire: Wire) -> None:
        part = self.parts.pop(0) if self.parts else self.hold
        if isinstance(part, int):
            wire.refuse(part)
        elif callable(part):
            wire.begin()
            part(wire)

    def hold(self, _wire: Wire) -> None:
        """An open stream on which nothing happens."""
        self.done.wait(10)


def log_page(site: Site, script: Script, body: str = "", cursor: int = 0) -> None:
    blocks = STREAM + f"{{% block cursor %}}{cursor or ''}{{% endblock %}}"
    log = '{% include "web/_log.html" with lines="" total=0 log_url="/log" download_url="/log.txt" %}'
    site.page("/page", body + log, blocks=blocks)
    site.answers["/live/operations/7"] = script


def test_it_comes_back_with_its_cursor_after_errors_of_the_server(site: Site, page: Page) -> None:
    def first(wire: Wire) -> None:
        for number in (41, 42):
            wire.event("line", line(number), number)

    def later(wire: Wire) -> None:
        wire.event("line", line(42) + line(43), 43)  # repeats one
        script.hold(wire)

    script = Script(first, 503, 502, later)
    log_page(site, script, cursor=40)
    page.goto("/page")
    expect(page.locator("#log li")).to_have_text(["41said 41", "42said 42", "43said 43"])
    expect(page.locator("#live")).to_have_text("live")
    cursors = [query.get("after") for query in site.queries("/live/operations/7")]
    assert cursors == ["40", "42", "42", "42"]
    script.done.set()


def test_a_status_keeps_focus_text_and_open_details(site: Site, page: Page) -> None:
    def status(wire: Wire) -> None:
        go.wait(10)
        new = '<div id="_status"><b>running</b><details><summary>more</summary>two</details><input></div>'
        wire.event("status", new + '<i id="elsewhere"></i>')
        script.hold(wire)

    go = threading.Event()
    script = Script(status)
    log_page(site, script, '<div id="_status"><b>queued</b><details><summary>more</summary>one</details><input></div>')
    page.goto("/page")
    page.click("summary")
    page.fill("#_status input", "half a sentence")
    go.set()
    expect(page.locator("#_status b")).to_have_text("running")
    expect(page.locator("#_status details")).to_have_attribute("open", "")
    expect(page.locator("#_status input")).to_be_focused()
    expect(page.locator("#_status input")).to_have_value("half a sentence")
    assert page.locator("#elsewhere").count() == 0
    script.done.set()


def test_news_is_told_once_by_topic(site: Site, page: Page) -> None:
    def news(wire: Wire) -> None:
        go.wait(10)
        for _ in range(3):
            wire.event("news", "operations health")
        script.hold(wire)

    go = threading.Event()
    script = Script(news)
    log_page(site, script)
    page.goto("/page")
    page.evaluate(COUNT_NEWS)
    go.set()
    page.wait_for_function("heard.length >= 2")
    assert page.evaluate("heard") == ["news", "news-health"]
    script.done.set()


def test_after_a_gap_it_asks_for_all_news_and_every_listening_part_asks_again(site: Site, page: Page) -> None:
    def told(wire: Wire) -> None:
        if wire.path.endswith("?heard="):
            wire.event("news", "health operations")
        script.hold(wire)

    script = Script(503, told)
    log_page(site, script, '<p hx-get="/part" hx-trigger="news-health from:body">old</p>')
    site.html("/part", lambda _query: "new")
    page.goto("/page")
    expect(page.locator("main p", has_text="new")).to_be_visible()
    script.done.set()


def test_a_page_says_how_far_it_had_heard_and_after_a_gap_that_it_does_not_know(site: Site, page: Page) -> None:
    script = Script(503)
    site.page("/page", "<p>hello</p>", blocks=STREAM, heard="abc-7")
    site.answers["/live/operations/7"] = script
    page.goto("/page")
    expect(page.locator("#live")).to_have_text("live")
    assert [query.get("heard") for query in site.queries("/live/operations/7")] == ["abc-7", None]
    script.done.set()


def test_the_end_of_an_operation_is_not_the_end_of_the_news(site: Site, page: Page) -> None:
    def last(wire: Wire) -> None:
        wire.event("line", line(1), 1)
        wire.event("end", "")

    news = Script()
    log_page(site, Script(last))
    site.answers["/live/news"] = news
    with page.expect_request("**/live/news?heard="):
        page.goto("/page")
    expect(page.locator("#log li")).to_have_count(1)
    assert len(site.queries("/live/operations/7")) == 1
    assert site.queries("/live/news") in ([], [{}])  # the operation's cursor means nothing to the news
    news.done.set()


def test_hidden_tabs_hold_no_stream(site: Site, page: Page) -> None:
    script = Script()
    log_page(site, script)
    page.goto("/page")
    expect(page.locator("#live")).to_have_text("live")
    with page.expect_event("requestfailed", lambda request: "/live/" in request.url):
        page.evaluate(SET_HIDDEN, True)
    with page.expect_request("**/live/operations/7?heard="):
        page.evaluate(SET_HIDDEN, False)
    expect(page.locator("#live")).to_have_text("live")
    script.done.set()


def test_without_a_stream_it_polls_the_page_itself(site: Site, page: Page) -> None:
    log_page(site, Script(*[503] * 99), '<b id="_status" data-live>queued</b>')
    site.html("/log", lambda query: line(1) if query == {"after": "0"} else "")
    page.clock.install()
    page.goto("/page")
    site.page("/page", '<b id="_status" data-live>running</b>', blocks=STREAM)
    for _ in range(40):
        page.clock.run_for(1000)
        if page.locator("#live").text_content() == "polling" and page.locator("#log li").count():
            break
    expect(page.locator("#live")).to_have_text("polling")
    expect(page.locator("#_status")).to_have_text("running")
    expect(page.locator("#log li")).to_have_count(1)


def test_a_sign_in_page_never_lands_inside_a_page(site: Site, page: Page) -> None:
    def redirect(_query: Query, wire: Wire) -> None:
        wire.send_response(302)
        wire.send_header("Location", "/login")
        wire.end_headers()

    site.page("/page", '<p hx-get="/part" hx-trigger="click">press</p>')
    site.answers["/part"] = redirect
    site.html("/login", lambda _query: "<h1>Sign in</h1>")
    page.goto("/page")
    with page.expect_navigation(url="**/page"):
        page.click("main p")
    expect(page.locator("h1")).to_have_count(0)
