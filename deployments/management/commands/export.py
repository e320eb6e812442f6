"""`manage.py export WHAT …`: files for other systems, made of what is declared here."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.operations.errors import OperationError, StepError
from deployments.exporting import exports


class Command(BaseCommand):
    help = "Prints a file for another system, made of what is declared here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One subcommand an export."""
        chosen = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
        for name, export in sorted(exports().items()):
            export.arguments(chosen.add_parser(name, help=export.words, description=export.words))

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        """The text, and nothing else, goes to the standard output."""
        try:
            text = exports()[what].make(options)
        except (OperationError, StepError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(text, ending="")
