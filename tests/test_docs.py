"""The documents are true: every command, setting, check and page that they name exists, and none is left out."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from controlplane.web import checks

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
OURS = {"controlplane.", "environments", "deployments", "backups", "incidents"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text()
    assert not [name for name in re.findall(r"\bbin/(\w+)", text) if not (ROOT / "bin" / name).exists()]
    named = set(re.findall(r"(?:manage\.py|bin/manage) ([a-z_]+)", text))
    assert not named - set(get_commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_code_exist(page: Path) -> None:
    paths = re.findall(
        r"`((?:controlplane|environments|deployments|tests|templates|docs)/[\w/.-]+\.\w+)`", page.read_text()
    )
    assert not [path for path in paths if not (ROOT / path).exists() and not (ROOT / "templates" / path).exists()]


def test_every_command_of_ours_is_documented() -> None:
    ours = {name for name, app in get_commands().items() if any(str(app).startswith(own) for own in OURS)}
    documented = {name for page in PAGES for name in re.findall(r"\b[a-z_]{4,}\b", page.read_text())}
    assert not ours - documented


def test_settings_are_all_documented_and_no_others() -> None:
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', text_of("controlplane/settings.py")))
    # The auditor reads its own, and shares only DATABASE_URL.
    read |= set(re.findall(r'read\("(\w+)"', text_of("incidents/auditor/settings.py")))
    documented = set(re.findall(r"^\| `(\w+)` \|", text_of("docs/settings.md"), re.MULTILINE))
    assert documented == read


def test_every_check_is_documented() -> None:
    source = Path(str(checks.__file__)).read_text()
    assert set(re.findall(r'id="(controlplane\.E\d+)"', source)) == set(
        re.findall(r"controlplane\.E\d+", text_of("docs/settings.md"))
    )
