"""Post-mortems as pages: Markdown without HTML, links only to the web and to ourselves, "[#12]" as a link to an entry.

What people write is shown to others, so nothing of it reaches the page but what this renderer makes itself.
"""

import re
from collections.abc import Callable, Sequence

from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

CITATION = re.compile(r"\[#([1-9][0-9]{0,11})\]")
# To the web by its full address, or to a page of ours; "//host" and "/\host" would leave us unseen.
SAFE_LINK = re.compile(r"https?://|#|/(?![/\\])", re.IGNORECASE)


Link = Callable[[int], str]


class Markdown(MarkdownIt):
    """CommonMark with tables; HTML is text, pictures are not fetched, other links stay text."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False})
        self.enable("table").disable(["image", "html_block", "html_inline"])
        self.inline.ruler.before("link", "citation", _cite)
        self.add_render_rule("link_open", _link)

    def validateLink(self, url: str) -> bool:  # noqa: N802 (the name the library asks for)
        """Only to the web, or to a page of ours."""
        return SAFE_LINK.match(url.strip()) is not None


def _cite(state: StateInline, silent: bool) -> bool:
    """Make a link of a citation of an entry that exists; of no other."""
    found = CITATION.match(state.src, state.pos)
    address = state.env["link"](int(found[1])) if found else ""
    if found is None or not address:
        return False
    if not silent:
        link = state.push("link_open", "a", 1)
        link.attrs = {"href": address, "class": "cite"}
        state.push("text", "", 0).content = f"#{found[1]}"
        state.push("link_close", "a", -1)
    state.pos = found.end()
    return True


def _link(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    if tokens[index].attrGet("class") != "cite":
        tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return renderer.renderToken(tokens, index, options, env)


def render(text: str, link: Link) -> SafeString:
    """The text as HTML. link: the address of an entry by its number, "" when there is none."""
    html: str = Markdown().render(text, {"link": link})
    return mark_safe(html)  # noqa: S308 (made by the renderer alone; see test_postmortem_markdown)


def citations(text: str) -> list[int]:
    """The numbers of the entries that a text cites, in its order."""
    return [int(number) for number in CITATION.findall(text)]


def plain(text: str, limit: int = 300) -> str:
    """Somebody's words as one line of a sentence: no Markdown of theirs, no citation that nobody meant."""
    line = " ".join(text.split()).rstrip(".!")
    line = f"{line[: limit - 1]}…" if len(line) > limit else line
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", line)
