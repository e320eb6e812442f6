"""The people of every test: alice asks, bob approves, charlie is an outsider."""

import pytest

from controlplane.accounts.models import EVERYWHERE, Grant, Person, Role


def person(username: str, **grants: Role) -> Person:
    """Somebody, with roles by scope; `everywhere` stands for all of them."""
    somebody = Person.objects.create_user(username, password=f"{username}-password-1", first_name=username.title())
    for scope, role in grants.items():
        Grant.objects.create(person=somebody, scope=EVERYWHERE if scope == "everywhere" else scope, role=role)
    return somebody


@pytest.fixture
def alice(db: None) -> Person:
    """Operator: asks for operations."""
    return person("alice", everywhere=Role.OPERATOR)


@pytest.fixture
def bob(db: None) -> Person:
    """Approver: says yes or no."""
    return person("bob", everywhere=Role.APPROVER)


@pytest.fixture
def charlie(db: None) -> Person:
    """Has an account and no role anywhere."""
    return person("charlie")


@pytest.fixture
def dana(db: None) -> Person:
    """Viewer: sees everything, changes nothing."""
    return person("dana", everywhere=Role.VIEWER)


@pytest.fixture
def eve(db: None) -> Person:
    """Operator in development only."""
    return person("eve", development=Role.OPERATOR)


@pytest.fixture
def ada(db: None) -> Person:
    """Admin of the whole installation."""
    return person("ada", everywhere=Role.ADMIN)
