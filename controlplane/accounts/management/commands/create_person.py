"""manage.py create_person USERNAME: add a person with a role and a password."""

import sys
from getpass import getpass
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from controlplane.accounts import services
from controlplane.accounts.models import EVERYWHERE, Role
from controlplane.audit.record import SYSTEM


class Command(BaseCommand):
    help = "Add a person. The password is read from standard input, or asked for at a terminal."

    def add_arguments(self, parser: CommandParser) -> None:
        """USERNAME, and what they may do."""
        parser.add_argument("username")
        parser.add_argument("--name", default="", help="as others know them; the username if left out")
        parser.add_argument("--email", default="")
        parser.add_argument("--role", choices=Role.values, help="what they may do; nothing if left out")
        parser.add_argument("--scope", default=EVERYWHERE, help="the environment of the role; everywhere if left out")

    def handle(self, *args: Any, username: str, name: str, email: str, role: str, scope: str, **options: Any) -> None:
        """Add them, all or nothing."""
        who, reason = SYSTEM("manage.py"), "manage.py create_person"
        try:
            with transaction.atomic():
                person = services.add_person(username, name=name or username, email=email, who=who, reason=reason)
                password = _password()
                validate_password(password, person)
                person.set_password(password)
                person.save(update_fields=["password"])
                services.record_password(person, who, reason)
                if role:
                    services.set_grants(person, {scope: Role(role)}, who, reason)
        except services.PeopleError as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(f"{' '.join(error.messages)} Nobody was added.") from error
        self.stdout.write(f"{username} can sign in{f' as {role} ({scope})' if role else ''}.")


def _password() -> str:
    """A person types it twice; a program writes one line."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise CommandError("The two passwords differ. Nobody was added.")
    return password
