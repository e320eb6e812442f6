"""Changes of people: each with who, what and why; never without an admin; never of oneself."""

import threading

import pytest
from django.db import connection

from controlplane.accounts import services
from controlplane.accounts.access import Actor
from controlplane.accounts.models import Grant, Person, Role
from controlplane.accounts.services import PeopleError
from controlplane.audit.models import Entry
from controlplane.audit.record import SYSTEM

pytestmark = pytest.mark.django_db
WHO = SYSTEM("test")


def told() -> list[tuple[str, str, str]]:
    return list(Entry.objects.order_by("pk").values_list("action", "target", "reason"))


def test_ensuring_twice_is_nothing() -> None:
    person, changes = services.ensure_person("zoe", name="Zoë Quist", email="zoe@example.com", who=WHO, reason="new")
    assert changes == {"username": ["", "zoe"], "name": ["", "Zoë Quist"], "email": ["", "zoe@example.com"]}
    assert (person.title_name, person.has_usable_password()) == ("Zoë Quist", False)
    assert services.ensure_person("ZOE", name="Zoë Quist", email="zoe@example.com", who=WHO) == (person, {})
    assert told() == [("person.added", "person zoe", "new")]


def test_ensuring_changes_what_differs_and_no_more(alice: Person) -> None:
    password = alice.password
    _, changes = services.ensure_person("alice", name="Alice Ames", email="", who=WHO, reason="married")
    assert changes == {"name": ["Alice", "Alice Ames"]}
    alice.refresh_from_db()
    assert (alice.title_name, alice.password, alice.grants.count()) == ("Alice Ames", password, 1)
    assert told() == [("person.changed", "person alice", "married")]


@pytest.mark.parametrize("username", ["alice", "ALICE", "", "a b", "x" * 200, "a/b"])
def test_nobody_is_added_twice_or_without_a_name(alice: Person, username: str) -> None:
    with pytest.raises(PeopleError):
        services.add_person(username, name="Other", who=WHO)
    assert Person.objects.count() == 1
    assert told() == []


def test_nobody_is_called_like_a_machine(alice: Person) -> None:
    with pytest.raises(PeopleError, match="those of machines"):
        services.add_person("zoe", name="system: clock", who=WHO)
    with pytest.raises(PeopleError, match="those of machines"):
        services.ensure_person("alice", name="system: clock", who=WHO)
    assert [person.title_name for person in Person.objects.all()] == ["Alice"]
    assert told() == []


def test_roles_become_exactly_these(eve: Person) -> None:
    changes = services.set_grants(eve, {"*": Role.VIEWER, "production": Role.APPROVER}, WHO, "on call")
    assert changes == {"*": ["", "viewer"], "development": ["operator", ""], "production": ["", "approver"]}
    assert dict(eve.grants.values_list("scope", "role")) == {"*": "viewer", "production": "approver"}
    assert services.set_grants(eve, {"*": Role.VIEWER, "production": Role.APPROVER}, WHO, "again") == {}
    assert told() == [("person.roles", "person eve", "on call")]
    assert Entry.objects.get().data == {"changes": changes}


def test_deactivated_and_back(alice: Person, ada: Person) -> None:
    who = Actor(ada).who
    for _ in range(2):
        services.deactivate(alice, who, "left")
    assert not Person.objects.get(pk=alice.pk).is_active
    for _ in range(2):
        services.activate(alice, who, "back")
    assert Person.objects.get(pk=alice.pk).is_active
    assert told() == [("person.deactivated", "person alice", "left"), ("person.activated", "person alice", "back")]


def test_deleted_with_everything_but_the_name(alice: Person, ada: Person) -> None:
    services.delete_person(alice, Actor(ada).who, "left")
    assert not Person.objects.filter(username="alice").exists()
    assert Grant.objects.count() == 1
    entry = Entry.objects.get()
    assert (entry.actor, entry.action, entry.target, entry.reason) == ("Ada", "person.deleted", "person alice", "left")


@pytest.mark.parametrize("change", [services.deactivate, services.delete_person])
def test_nobody_removes_themselves(ada: Person, change: object) -> None:
    Grant.objects.create(person=Person.objects.create(username="other"), scope="*", role=Role.ADMIN)
    with pytest.raises(PeopleError, match=r"You cannot \w+ yourself"):
        change(ada, Actor(ada).who, "bye")  # type: ignore[operator]
    assert Person.objects.get(pk=ada.pk).is_active


@pytest.mark.parametrize(
    "change",
    [
        services.deactivate,
        services.delete_person,
        lambda person, who, reason: services.set_grants(person, {"*": Role.APPROVER}, who, reason),
        lambda person, who, reason: services.set_grants(person, {"production": Role.ADMIN}, who, reason),
    ],
)
def test_the_last_admin_stays(ada: Person, change: object) -> None:
    Grant.objects.create(person=Person.objects.create(username="gone", is_active=False), scope="*", role=Role.ADMIN)
    with pytest.raises(PeopleError, match="last active person with the role admin"):
        change(ada, WHO, "bye")  # type: ignore[operator]
    assert Actor(Person.objects.get(pk=ada.pk)).is_admin
    assert told() == []


@pytest.mark.django_db(transaction=True)
def test_two_admins_cannot_remove_each_other_at_once(ada: Person, bob: Person) -> None:
    Grant.objects.filter(person=bob).update(role=Role.ADMIN)
    barrier, errors = threading.Barrier(2), []

    def remove(victim: Person, by: Person) -> None:
        barrier.wait()
        try:
            services.deactivate(victim, Actor(by).who, "quarrel")
        except PeopleError as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=remove, args=pair) for pair in ((ada, bob), (bob, ada))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Person.objects.filter(is_active=True).count() == 1
    assert len(errors) == 1
