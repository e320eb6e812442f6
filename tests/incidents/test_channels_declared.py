"""The section `channels` of the configuration file: strict, with references for secrets, and twice is nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from controlplane.audit.models import Entry
from environments.declarations.reading import FileError
from incidents.models import Channel

pytestmark = pytest.mark.django_db

FILE = """
[channels.pagerduty]
routing_key = "file:paging/routing-key"

[channels.email]
host = "smtp.example.com"
sender = "noreply@example.com"
"""


def apply(folder: Path, text: str) -> None:
    file = folder / "control.toml"
    file.write_text(text)
    call_command("apply", str(file), yes=True, verbosity=0)


def problems(folder: Path, text: str) -> dict[str, str]:
    file = folder / "control.toml"
    file.write_text(text)
    with pytest.raises(Exception) as caught:
        call_command("apply", str(file), yes=True, verbosity=0)
    error: Any = caught.value
    while error is not None and not isinstance(error, FileError):
        error = error.__cause__ or error.__context__
    assert error is not None, caught.value
    return {one.path: one.words for one in error.problems}


def test_they_come_and_change_and_stay(data_dir: Path) -> None:
    apply(data_dir, FILE)
    assert Channel.objects.get(kind="pagerduty").settings == {"routing_key": "file:paging/routing-key"}
    count = Entry.objects.filter(action="channel.declared").count()
    assert count == 2
    apply(data_dir, FILE)
    assert Entry.objects.filter(action="channel.declared").count() == count
    apply(data_dir, FILE.replace("smtp.example.com", "mail.example.com"))
    assert Channel.objects.get(kind="email").settings["host"] == "mail.example.com"
    apply(data_dir, FILE.split("[channels.email]", maxsplit=1)[0])
    assert Channel.objects.filter(kind="email").exists(), "what the file does not name is left alone"


def test_a_paused_channel_stays_paused(data_dir: Path) -> None:
    apply(data_dir, FILE)
    Channel.objects.update(paused=True)
    apply(data_dir, FILE.replace("smtp.example.com", "mail.example.com"))
    assert Channel.objects.get(kind="email").paused


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[channels.pigeon]\nhost = 'x'", "channels.pigeon"),
        ("[channels.pagerduty]\n", "channels.pagerduty.routing_key"),
        ("[channels.pagerduty]\nrouting_key = 'R0UT1NGKEY'", "channels.pagerduty.routing_key"),
        ("[channels.pagerduty]\nrouting_key = 'file:a'\ncolour = 'red'", "channels.pagerduty.colour"),
        ("[channels.webhook]\nsecret = 'file:a'\nurl = 'http://169.254.169.254/'", "channels.webhook.url"),
        ("[channels.email]\nhost = 'x'\nsender = 'a@b.c'\ntls = 'perhaps'", "channels.email.tls"),
        ("[channels.email]\nhost = 'x'\nsender = 'a@b.c'\nport = 'many'", "channels.email.port"),
        ("[channels.slack]\ntoken = 'file:a'", "channels.slack.channel"),
        ("[channels.sms]\naccount = 'AC1'\ntoken = 'file:a'\nsender = 5", "channels.sms.sender"),
    ],
)
def test_what_is_wrong_is_said_by_its_key(data_dir: Path, text: str, path: str) -> None:
    found = problems(data_dir, text)
    assert path in found
    assert found[path]
    assert not Channel.objects.exists()


def test_the_words_never_contain_a_secret_that_was_written_by_mistake(data_dir: Path) -> None:
    found = problems(data_dir, "[channels.pagerduty]\nrouting_key = 'R0UT1NGKEY'")
    assert "R0UT1NGKEY" not in json.dumps(found)
