"""What may be done to people. Each function is one transaction that ends with its entry in the audit trail."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import ProtectedError

from controlplane.accounts.models import EVERYWHERE, Grant, Person, Role
from controlplane.audit.record import MACHINE, Who, record

# Any number: changes of people wait for each other, so that two admins cannot remove one another at once.
PEOPLE_LOCK = 4_857_110_033

# What changed, by its name: before and after, "" for nothing.
Changes = dict[str, list[str]]


class PeopleError(Exception):
    """A change of people that cannot be; the text says why and what would change it."""


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """A transaction, one after the other, that may not leave the installation without an admin."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PEOPLE_LOCK])
        before = _admins()
        yield
        if before and not _admins():
            raise PeopleError(
                "This is the last active person with the role admin everywhere, and without one nobody could change "
                "people any more. Give somebody else that role first."
            )


def _admins() -> bool:
    return Grant.objects.filter(scope=EVERYWHERE, role=Role.ADMIN, person__is_active=True).exists()


def add_person(username: str, *, name: str, email: str = "", who: Who, reason: str = "") -> Person:
    """A new person, without a role and without a password.

    Raises PeopleError when the username is taken, in whatever case, when one of the three is none, or when the name is
    like a machine's.
    """
    with _one_at_a_time():
        person = Person(username=username, first_name=name, email=email)
        person.set_unusable_password()
        _clean(person)
        person.save()
        record(who, "person.added", _target(person), reason=reason, data={"name": name, "email": email})
    return person


def ensure_person(username: str, *, name: str, email: str = "", who: Who, reason: str = "") -> tuple[Person, Changes]:
    """The person of this username, added or renamed if need be.

    The changes are empty when there was nothing to do, and then nothing is recorded. Raises PeopleError as above.
    """
    with _one_at_a_time():
        person = Person.objects.filter(username__iexact=username).first()
        if person is None:
            person = add_person(username, name=name, email=email, who=who, reason=reason)
            return person, {"username": ["", username], "name": ["", name], "email": ["", email]}
        had, wanted = {"name": person.title_name, "email": person.email}, {"name": name, "email": email}
        changes = {field: [had[field], wanted[field]] for field in wanted if had[field] != wanted[field]}
        if changes:
            person.first_name, person.last_name, person.email = name, "", email
            _clean(person)
            person.save()
            record(who, "person.changed", _target(person), reason=reason, data={"changes": changes})
    return person, changes


def set_grants(person: Person, grants: Mapping[str, Role], who: Who, reason: str) -> Changes:
    """Give the person exactly these roles, by scope ("*": everywhere). The changes are empty when they had them.

    Raises PeopleError when nobody would be an admin any more.
    """
    with _one_at_a_time():
        had = dict(person.grants.values_list("scope", "role"))
        wanted = {scope: str(role) for scope, role in grants.items()}
        changes = {
            scope: [had.get(scope, ""), wanted.get(scope, "")]
            for scope in sorted({*had, *wanted})
            if had.get(scope) != wanted.get(scope)
        }
        if changes:
            person.grants.filter(scope__in=changes).delete()
            changed = [scope for scope in changes if scope in wanted]
            Grant.objects.bulk_create(Grant(person=person, scope=scope, role=wanted[scope]) for scope in changed)
            record(who, "person.roles", _target(person), reason=reason, data={"changes": changes})
    return changes


def deactivate(person: Person, who: Who, reason: str) -> None:
    """End all that this person and their tokens can do, until they are activated again.

    Raises PeopleError for oneself and for the last admin.
    """
    _not_oneself(person, who, "deactivate")
    with _one_at_a_time():
        if Person.objects.filter(pk=person.pk, is_active=True).update(is_active=False):
            record(who, "person.deactivated", _target(person), reason=reason)


def activate(person: Person, who: Who, reason: str = "") -> None:
    """Give back what deactivating took."""
    with _one_at_a_time():
        if Person.objects.filter(pk=person.pk, is_active=False).update(is_active=True):
            record(who, "person.activated", _target(person), reason=reason)


def delete_person(person: Person, who: Who, reason: str) -> None:
    """Delete the person with their roles and tokens; every history keeps their name.

    Raises PeopleError for oneself, for the last admin and for somebody as whom something acts, a pipeline.
    """
    _not_oneself(person, who, "delete")
    with _one_at_a_time():
        data = {"username": person.username, "email": person.email, "id": person.pk}
        try:
            Person.objects.filter(pk=person.pk).delete()
        except ProtectedError as error:
            raise PeopleError(_who_needs(person, error)) from error
        record(who, "person.deleted", _target(person), reason=reason, data=data)


def record_password(person: Person, who: Who, reason: str = "") -> None:
    """Keep that the password was set; call it in the transaction that set it."""
    record(who, "person.password", _target(person), reason=reason)


def record_password_link(person: Person, who: Who, reason: str) -> None:
    """Keep that somebody was given a link with which the person's password can be set."""
    with transaction.atomic():
        record(who, "person.password_link", _target(person), reason=reason)


def _clean(person: Person) -> None:
    if person.title_name.startswith(MACHINE):
        raise PeopleError(f"{person.username}: names that begin with “{MACHINE.strip()}” are those of machines.")
    try:
        person.full_clean(exclude=["password"])
    except ValidationError as error:
        raise PeopleError(f"{person.username}: {' '.join(error.messages)}") from error


def _who_needs(person: Person, error: ProtectedError) -> str:
    """What cannot be without the person; the rooms above tell the database, and this one knows none of them."""
    names = " and ".join(sorted(f"the {one._meta.verbose_name} {one}" for one in error.protected_objects))
    return f"{person} belongs to {names} and cannot be deleted. Deactivate them: that ends all that is done as them."


def _not_oneself(person: Person, who: Who, verb: str) -> None:
    if who.id == person.pk:
        raise PeopleError(f"You cannot {verb} yourself. Ask another administrator.")


def _target(person: Person) -> str:
    return f"person {person.username}"
