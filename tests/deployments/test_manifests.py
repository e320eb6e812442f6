"""The files of a service in an environment: by command and on a page, for whoever may see the environment."""

from collections.abc import Mapping
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from environments.drivers.base import Document, Software, Target
from environments.models import ConfigEntry
from tests.estate import Estate, paper

pytestmark = pytest.mark.django_db
URL = "/environments/production/manifests/api"


@pytest.fixture
def exporting(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Estate:
    """Its driver writes down what it is told."""

    def documents(target: Target, software: Software, variables: Mapping[str, str]) -> list[Document]:
        lines = [f"{name}: {value}" for name, value in variables.items()]
        return [Document("a.yaml", f"version: {software.version}\n"), Document("b.yaml", "\n".join(lines) + "\n")]

    monkeypatch.setattr(paper, "documents", documents, raising=False)
    ConfigEntry.objects.create(environment=estate.production, key="PASSWORD", secret="file:production/password")
    ConfigEntry.objects.create(environment=estate.production, key="URL", value="db://me:${PASSWORD}@db")
    return estate


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("export", "manifests", *arguments)
    return capsys.readouterr().out


def test_the_command_prints_what_is_deployed_or_a_version(
    exporting: Estate, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "production", "api")
    assert "# a.yaml\nversion: 1.4.0\n---\n# b.yaml\n" in text
    assert "URL: db://me:${file:production/password}@db" in text, "no file of secrets is read"
    assert "version: 1.5.0" in printed(capsys, "production", "api", "1.5.0")


@pytest.mark.parametrize("arguments", [("moon", "api"), ("production", "shop"), ("production", "api", "9.9.9")])
def test_what_is_not_there_is_said(exporting: Estate, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="no "):
        call_command("export", "manifests", *arguments)


def test_a_driver_that_applies_no_files_says_so(estate: Estate) -> None:
    with pytest.raises(CommandError, match="paper applies no files"):
        call_command("export", "manifests", "production", "api")


@pytest.mark.parametrize(("name", "status"), [("charlie", 404), ("dana", 200)])
def test_whoever_sees_the_environment_sees_the_files(
    client: Client, exporting: Estate, request: pytest.FixtureRequest, name: str, status: int
) -> None:
    client.force_login(request.getfixturevalue(name))
    assert client.get(URL).status_code == status
    assert client.get(f"{URL}?file=a.yaml").status_code == status


def test_a_file_is_taken_along(client: Client, exporting: Estate, dana: Any) -> None:
    client.force_login(dana)
    answer = client.get(f"{URL}?file=a.yaml&version=1.5.0")
    assert (answer.content, answer["Content-Disposition"]) == (b"version: 1.5.0\n", 'attachment; filename="a.yaml"')
    assert client.get(f"{URL}?file=../settings.py").status_code == 404
    page = client.get(f"{URL}?version=9.9.9")
    assert (page.status_code, b"There is no release 9.9.9" in page.content) == (409, True)
