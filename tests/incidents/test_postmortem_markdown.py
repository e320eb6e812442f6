"""What people write reaches others as text: no HTML, no script, no address but the web's and our own."""

from html.parser import HTMLParser

import pytest

from incidents.lessons.markdown import citations, plain, render

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <svg/onload=alert(1)> text",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](\\javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/x)",
    "[x](/\\evil.example/x)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/track.png)",
    "![x](javascript:alert(1))",
    "[x]: javascript:alert(1)\n\n[x]",
    '[x](https://a.example "onmouseover=alert(1)")',
    '[x](https://a.example/"onmouseover="alert(1))',
    "[#1](javascript:alert(1))",
    "`<script>alert(1)</script>`",
    "```\n<script>alert(1)</script>\n```",
    "<!-- --><script>alert(1)</script>",
    "[#1<script>]",
    "| <b onclick=x> |\n|---|\n| <script> |",
]  # fmt: skip
ALLOWED = {
    "p", "a", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "em", "strong", "code", "pre", "blockquote", "hr",
    "br", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


# A picture's address may be a link one has to press; nothing else of them is left.
LINKS = ("https://a.example", "https://evil.example/track.png", "/incidents/7#entry-", "/%5C")


class Seen(HTMLParser):
    """Every element and attribute of a page, as a browser would find them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def shown(text: str) -> str:
    return render(text, lambda seq: f"/incidents/7#entry-{seq}" if 1 <= seq <= 5 else "")


def parsed(text: str) -> Seen:
    seen = Seen()
    seen.feed(shown(text))
    return seen


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_of_an_attack_is_left(text: str) -> None:
    seen = parsed(text)
    assert set(seen.tags) <= ALLOWED
    for name, value in seen.attributes:
        assert name in ("href", "rel", "class", "title", "align"), (name, value)
        if name == "href":
            assert value.startswith(
                ("https://a.example", "https://evil.example/track.png", "/incidents/7#entry-", "/%5C")
            )


def test_links_to_the_web_and_to_ourselves_are_kept() -> None:
    html = shown("[a](https://example.com/x) [b](/operations/3) [c](http://example.com) [d](#lessons)")
    assert 'href="https://example.com/x" rel="noopener noreferrer nofollow"' in html
    assert 'href="/operations/3"' in html
    assert html.count("<a ") == 4


def test_a_citation_leads_to_its_entry() -> None:
    assert '<a href="/incidents/7#entry-3" class="cite">#3</a>' in shown("It broke [#3].")


@pytest.mark.parametrize("text", ["[#6]", "[#0]", "[#-1]", "[# 1]", "[#1a]", "\\[#1]", "`[#1]`", f"[#{10**12}]"])
def test_what_cites_no_entry_is_no_link(text: str) -> None:
    assert "<a " not in shown(text)


def test_markdown_is_rendered() -> None:
    html = shown("## Impact\n\n- **bad**\n\n| a |\n|---|\n| 1 |")
    assert "<h2>Impact</h2>" in html
    assert "<strong>bad</strong>" in html
    assert "<td>1</td>" in html


def test_citations_are_found_in_their_order() -> None:
    assert citations("a [#3], b [#1] [#20] and [#x]") == [3, 1, 20]


def test_words_of_others_become_one_harmless_line() -> None:
    text = plain("first.\n## second [#1] `x` *y* <b>")
    assert "\n" not in text
    assert citations(text) == []
    assert "<em>" not in shown(text)
    assert len(plain("x" * 1000)) == 300


@pytest.mark.parametrize("text", ["[" * 40_000, "> " * 20_000, "[a](" * 10_000, "`" * 40_000, "*a_" * 13_000])
def test_a_text_made_to_be_slow_is_not(text: str) -> None:
    assert shown(text)
