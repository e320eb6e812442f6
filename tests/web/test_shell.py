"""The frame of every page."""

import pytest
from django.template import loader
from django.test import RequestFactory

from tests.web.conftest import render_page

pytestmark = pytest.mark.usefixtures("shell_urls")


def test_the_count_of_what_waits_stands_in_the_navigation_and_follows_the_news() -> None:
    html = render_page("")
    assert '<span class="count">2<span class="unseen"> waiting for an approval</span>' in html
    assert 'hx-trigger="news from:body"' in html


def test_the_counts_answer_is_the_element_that_asked() -> None:
    html = loader.render_to_string("web/_nav_counts.html", {"navigation": {"approvals": 0}})
    assert html.startswith('<span id="_nav_counts"')
    assert "count" not in html.partition(">")[2]


def test_a_visitor_gets_no_navigation_and_no_stream() -> None:
    html = render_page("", user=None)
    assert "<nav" not in html
    assert "data-stream" not in html


def test_a_page_names_its_own_stream_and_cursor() -> None:
    blocks = "{% block stream %}/live/operations/7{% endblock %}{% block cursor %}42{% endblock %}"
    html = render_page("", blocks=blocks)
    assert 'data-stream="/live/operations/7"' in html
    assert 'data-cursor="42"' in html


def test_people_is_for_administrators() -> None:
    assert 'href="/people"' in render_page("")
    assert 'href="/people"' not in render_page("", navigation={"admin": False})


@pytest.mark.parametrize("name", ["400.html", "500.html", "403_csrf.html", "429.html"])
def test_error_pages_need_neither_context_nor_database(name: str, settings: object) -> None:
    html = loader.render_to_string(name)
    assert "<h1>" in html
    assert "<script" not in html


@pytest.mark.parametrize("name", ["403.html", "404.html"])
def test_refusals_stand_in_the_shell(name: str) -> None:
    request = RequestFactory().get("/somewhere")
    html = loader.render_to_string(name, {"exception": "Only an approver may.", "user": None}, request)
    assert '<header class="top">' in html
    assert name != "403.html" or "Only an approver may." in html
