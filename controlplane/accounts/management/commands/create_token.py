"""manage.py create_token USERNAME: print a new API token, and nothing else."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.accounts.models import Person, Role, roles_of, strongest
from controlplane.accounts.tokens import create_token
from controlplane.audit.record import SYSTEM

LONGEST_DAYS = 3650


class Command(BaseCommand):
    help = "Make an API token for a person and print it; it cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        """USERNAME and what the token is for."""
        parser.add_argument("username")
        parser.add_argument("--name", default="manage.py", help="what will use it")
        parser.add_argument("--role", choices=Role.values, help="at most this role; if left out, their strongest")
        parser.add_argument("--days", type=int, default=30, help="how long it is valid")

    def handle(self, *args: Any, username: str, name: str, role: str | None, days: int, **options: Any) -> None:
        """Make and print it."""
        if not 1 <= days <= LONGEST_DAYS:
            raise CommandError(f"--days must be from 1 to {LONGEST_DAYS}.")
        person = Person.objects.filter(username=username).first()
        if person is None:
            raise CommandError(f"There is no person {username}. manage.py create_person adds one.")
        if not person.is_active:
            raise CommandError(f"{username} is deactivated, so a token would be refused. Activate them first.")
        cap = Role(role) if role else strongest(roles_of(person).values())
        _, plaintext = create_token(person, name[:100], cap, days, SYSTEM("manage.py"))
        self.stdout.write(plaintext)
