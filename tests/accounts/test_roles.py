"""What somebody may do where: the strongest of what was given there and everywhere, capped by their token."""

import pytest
from pytest_django import DjangoAssertNumQueries

from controlplane.accounts.access import Actor, holders
from controlplane.accounts.models import Grant, Person, Role

pytestmark = pytest.mark.django_db

V, O, A, ADMIN = Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.ADMIN  # noqa: E741 (one letter a role, for the tables)


@pytest.mark.parametrize("stronger", Role)
@pytest.mark.parametrize("weaker", Role)
def test_each_includes_the_ones_before_it(stronger: Role, weaker: Role) -> None:
    order = ["viewer", "operator", "approver", "admin"]
    assert stronger.includes(weaker) == (order.index(stronger) >= order.index(weaker))


@pytest.mark.parametrize(
    ("grants", "cap", "in_a", "in_b"),
    [
        ({}, None, None, None),
        ({"a": O}, None, O, None),
        ({"*": V, "a": O}, None, O, V),
        ({"*": O, "a": V}, None, O, O),
        ({"*": ADMIN, "a": V}, A, A, A),
        ({"a": V, "b": ADMIN}, O, V, O),
        ({}, ADMIN, None, None),
    ],
)
def test_the_role_in_a_scope(
    charlie: Person, grants: dict[str, Role], cap: Role | None, in_a: Role | None, in_b: Role | None
) -> None:
    Grant.objects.bulk_create(Grant(person=charlie, scope=scope, role=role) for scope, role in grants.items())
    actor = Actor(charlie, cap=cap)
    assert (actor.role_in("a"), actor.role_in("b")) == (in_a, in_b)
    assert actor.may(O, ["a"]) == bool(in_a and in_a.includes(O))
    assert actor.may(O, ["a", "b"]) == bool(in_a and in_b and in_a.includes(O) and in_b.includes(O))


def test_no_scope_is_the_whole_installation(charlie: Person, ada: Person) -> None:
    Grant.objects.create(person=charlie, scope="a", role=ADMIN)
    assert not Actor(charlie).may(V, [])
    assert not Actor(charlie).is_admin
    assert Actor(ada).may(ADMIN, [])
    assert Actor(ada).is_admin
    assert not Actor(ada, cap=A).is_admin


def test_where_a_role_is_held(charlie: Person) -> None:
    Grant.objects.bulk_create(
        Grant(person=charlie, scope=scope, role=role) for scope, role in {"*": V, "b": ADMIN, "a": O}.items()
    )
    actor = Actor(charlie)
    assert [actor.scopes(role) for role in Role] == [None, ["a", "b"], ["b"], ["b"]]
    assert Actor(charlie, cap=O).scopes(A) == []


def test_who_was_deactivated_has_nothing(ada: Person) -> None:
    ada.is_active = False
    assert Actor(ada).role_in("a") is None
    assert Actor(ada).scopes() == []


def test_one_query_however_much_is_asked(alice: Person, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    actor = Actor(alice)
    with django_assert_num_queries(1):
        for scope in ("a", "b", "c"):
            actor.may(O, [scope])
            actor.scopes(O)


def test_who_can(alice: Person, bob: Person, ada: Person, eve: Person, dana: Person) -> None:
    assert holders(O, ["development"]) == [ada, alice, bob, eve]
    assert holders(O, ["development", "production"]) == [ada, alice, bob]
    assert holders(ADMIN, []) == [ada]
    Person.objects.filter(pk=ada.pk).update(is_active=False)
    assert holders(ADMIN, []) == []
    assert dana in holders(V, ["production"])
