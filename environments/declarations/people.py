"""The section `people`: who there is, and their roles by environment; passwords are never in the file."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from controlplane.accounts import services
from controlplane.accounts.models import EVERYWHERE, PIPELINES, Person, Role
from controlplane.audit.record import SYSTEM
from environments.declarations.estate import known_environments
from environments.declarations.reading import Table
from environments.declarations.sections import Change, Section, difference, lines_of

WHO = SYSTEM("manage.py")
REASON = "manage.py apply"


@dataclass(frozen=True)
class DeclaredPerson:
    """roles: by environment, or "*" for everywhere."""

    username: str
    name: str
    email: str
    roles: dict[str, str]


def read_people(file: Table) -> list[DeclaredPerson]:
    """Everybody in the file."""
    return [_person(username, table) for username, table in file.tables("people")]


def _person(username: str, table: Table) -> DeclaredPerson:
    if username.startswith(PIPELINES):
        table.wrong("name", f"usernames that begin with {PIPELINES} are those of pipelines; take another.")
    name = table.text("name", username, limit=150)
    email = table.checked("email", _problem_with_email, "")
    roles = table.below("roles")
    for scope in roles.values:
        roles.choice(scope, Role.values)
        if scope != EVERYWHERE and scope not in known_environments(table):
            roles.wrong(
                scope, f'there is no environment {scope}; declare it in this file, or write "*" for everywhere.'
            )
    table.end()
    return DeclaredPerson(username, name, email, {scope: roles.values[scope] for scope in roles.values})


def _problem_with_email(value: str) -> str:
    try:
        validate_email(value)
    except ValidationError:
        return "is no e-mail address"
    return ""


def people_changes(declared: list[DeclaredPerson]) -> Iterator[Change]:
    """People who come or are renamed, and their roles. The accounts' own services record each."""
    there = {person.username.lower(): person for person in Person.objects.prefetch_related("grants")}
    for one in declared:
        person = there.get(one.username)
        had = {"name": person.title_name, "email": person.email} if person else {}
        wanted = {"name": one.name, "email": one.email} if person or one.email else {"name": one.name}
        path = f"people.{one.username}"
        if person is None or difference(had, wanted):
            lines = lines_of(difference(had, wanted))
            yield Change("~" if person else "+", path, lines, partial(_ensure, one))
        granted = {grant.scope: grant.role for grant in person.grants.all()} if person else {}
        if roles := difference(granted, one.roles):
            sign = "+" if not granted else "~" if one.roles else "-"
            yield Change(sign, f"{path}.roles", lines_of(roles), partial(_grant, one))


def _ensure(one: DeclaredPerson) -> None:
    services.ensure_person(one.username, name=one.name, email=one.email, who=WHO, reason=REASON)


def _grant(one: DeclaredPerson) -> None:
    person = Person.objects.get(username__iexact=one.username)
    services.set_grants(person, {scope: Role(role) for scope, role in one.roles.items()}, WHO, REASON)


def people_left_alone(declared: list[DeclaredPerson]) -> list[str]:
    """People who exist and are not in the file; those of pipelines come with their pipeline."""
    known = {one.username for one in declared}
    others = Person.objects.exclude(username__startswith=PIPELINES).values_list("username", flat=True)
    return [f"person {name}" for name in others if name.lower() not in known]


PEOPLE = Section("people", read_people, people_changes, people_left_alone)
