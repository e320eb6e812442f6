"""The content security policy allows no inline style and no inline script: no template has any."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
FORBIDDEN = re.compile(r"\sstyle=|<style|\son[a-z]+=|javascript:|\shx-on|<script(?![^>]*\ssrc=)", re.IGNORECASE)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_template_has_nothing_inline(path: Path) -> None:
    assert FORBIDDEN.findall(path.read_text()) == []
