"""The reader's colours are there in the first byte, without JavaScript."""

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from controlplane.web.views import theme
from tests.web.conftest import render_page

ELSEWHERE = ("https://evil.example/", "//evil.example", "/\\evil.example", "/\t/evil.example", "javascript:alert(1)")

pytestmark = pytest.mark.usefixtures("shell_urls")


def choose(choice: str, back: str = "") -> HttpResponse:
    return theme(RequestFactory().post("/theme", {"theme": choice, "next": back}))


@pytest.mark.parametrize("choice", ["auto", "light", "dark"])
def test_a_choice_is_kept_and_leads_back(choice: str) -> None:
    answer = choose(choice, "/deployments?q=a")
    assert (answer.status_code, answer["Location"]) == (302, "/deployments?q=a")
    assert answer.cookies["theme"].value == choice


@pytest.mark.parametrize("back", [*ELSEWHERE, "board", ".", "?q=a", "theme", "/" + "x" * 9000, ""])
def test_it_leads_nowhere_else(back: str) -> None:
    assert choose("dark", back)["Location"] == "/"


def test_no_other_theme() -> None:
    assert choose("hotdog").status_code == 400


def test_only_a_post_changes_it() -> None:
    assert theme(RequestFactory().get("/theme")).status_code == 405


@pytest.mark.parametrize(("cookie", "attribute"), [("dark", True), ("auto", False), ('"><script>', False), ("", False)])
def test_the_page_carries_it(cookie: str, attribute: bool) -> None:
    html = render_page("", cookies={"theme": cookie})
    assert ('<html lang="en" data-bs-theme="dark">' in html) is attribute
    assert "<script>" not in html
