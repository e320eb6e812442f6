"""manage.py verify_timeline: check an exported timeline, wherever it has been since; needs no database."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from incidents.export import check
from incidents.timeline import Broken


class Command(BaseCommand):
    help = "Check a timeline that was exported as JSON. Exit code 1 names the first entry that does not hold."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Which file, and what it must end with."""
        parser.add_argument("file", type=Path, help="an incident's timeline.json")
        parser.add_argument(
            "--expect",
            default="",
            metavar="HASH",
            help="the hash of the last entry, kept elsewhere: fails if the file does not end with it",
        )

    def handle(self, *args: Any, file: Path, expect: str, **options: Any) -> None:
        """Walk the chain from the first entry to the head that the file names."""
        try:
            with file.open(encoding="utf-8") as opened:
                count, head = check(opened, expect)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from error
        except Broken as broken:
            raise CommandError(f"The timeline is broken: {broken}.") from broken
        self.stdout.write(f"{count} entries hold. Head: {head}")
