"""manage.py create_person and create_token."""

import io

import pytest
from django.core.management import CommandError, call_command

from controlplane.accounts.models import Person, Role
from controlplane.accounts.tokens import authenticate
from controlplane.audit.models import Entry

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def add(monkeypatch: pytest.MonkeyPatch, password: str, *arguments: str) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return run("create_person", *arguments)


def test_a_token_and_nothing_else(alice: Person) -> None:
    actor = authenticate(run("create_token", "alice").removesuffix("\n"))
    assert actor
    assert (actor.person, actor.cap) == (alice, Role.OPERATOR)
    assert Entry.objects.get().actor == "system: manage.py"


def test_a_weaker_one(alice: Person) -> None:
    actor = authenticate(run("create_token", "alice", "--name", "ci", "--role", "viewer", "--days", "1").strip())
    assert actor
    assert (actor.cap, actor.via) == (Role.VIEWER, "api token ci")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nobody"], "There is no person nobody"), (["alice", "--days", "0"], "--days"), (["gone"], "is deactivated")],
)
def test_no_token_for(alice: Person, arguments: list[str], words: str) -> None:
    Person.objects.create(username="gone", is_active=False)
    with pytest.raises(CommandError, match=words):
        run("create_token", *arguments)


def test_a_person_with_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["zoe", "--name", "Zoë Quist", "--role", "approver", "--scope", "production"]
    assert add(monkeypatch, "correct horse 7 battery", *arguments) == "zoe can sign in as approver (production).\n"
    zoe = Person.objects.get()
    assert (zoe.title_name, zoe.check_password("correct horse 7 battery")) == ("Zoë Quist", True)
    assert dict(zoe.grants.values_list("scope", "role")) == {"production": "approver"}
    assert set(Entry.objects.values_list("action", flat=True)) == {"person.added", "person.password", "person.roles"}


@pytest.mark.parametrize("password", ["", "short", "password1234"])
def test_nobody_with_a_weak_password(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    with pytest.raises(CommandError, match="Nobody was added"):
        add(monkeypatch, password, "zoe", "--role", "admin")
    assert not Person.objects.exists()
    assert not Entry.objects.exists()


def test_nobody_twice(monkeypatch: pytest.MonkeyPatch, alice: Person) -> None:
    with pytest.raises(CommandError, match="already"):
        add(monkeypatch, "correct horse 7 battery", "Alice")
