"""manage.py archive_settings ENVIRONMENT/POLICY: what the server's postgresql.conf needs."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from backups.archive_settings import lines
from backups.jobs import load_policy
from backups.models import Kind
from backups.programs import Server
from controlplane.operations.errors import StepError


class Command(BaseCommand):
    help = "Show the postgresql.conf lines for going back to any moment: for wal_receiver, and for archive_command."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which policy."""
        parser.add_argument("policy", help="as in production/database")

    def handle(self, *args: Any, policy: str, **options: Any) -> None:
        """Exit status 0; 1 when there is no such policy."""
        try:
            found = load_policy(policy)
            if found.kind != Kind.PITR:
                raise CommandError(f"{policy} is of kind {found.kind}; only pitr keeps WAL.")
            self.stdout.write(lines(found, Server.at(str(found.settings["database"]))))
        except StepError as error:
            raise CommandError(str(error)) from error
