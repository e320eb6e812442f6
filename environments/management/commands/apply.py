"""manage.py apply FILE: show how the file differs from what exists, and make it so."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.accounts.services import PeopleError
from controlplane.audit.record import SYSTEM
from controlplane.operations.errors import Conflict, StepError
from environments.declarations.applying import make_so, read
from environments.declarations.reading import FileError


class Command(BaseCommand):
    help = (
        "Make what a configuration file declares so. Shows the difference first, and asks; the same again is nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The file, and whether to ask."""
        parser.add_argument("file", type=Path, help="a TOML file, such as controlplane/samples/pitchey.toml")
        parser.add_argument("--yes", action="store_true", help="make it so without asking")

    def handle(self, *args: Any, file: Path, yes: bool, **options: Any) -> None:
        """Exit status 0; 2 when the file is wrong, and then nothing was changed."""
        try:
            declaration = read(file)
        except FileError as error:
            raise CommandError(f"{error}\nNothing was changed.", returncode=2) from error
        changes = declaration.changes()
        for change in changes:
            self.stdout.write(str(change))
        for words in declaration.left_alone():
            self.stdout.write(f"  not in the file, left alone: {words}")
        if not changes:
            self.stdout.write("Nothing to change.")
            return
        if not yes and not self._agreed(len(changes)):
            return
        try:
            make_so(declaration, changes, SYSTEM("manage.py"))
        except (Conflict, PeopleError, StepError) as error:
            raise CommandError(f"{error} Nothing was changed.") from error
        self.stdout.write(f"Done: {_count(len(changes))}.")

    def _agreed(self, count: int) -> bool:
        if not sys.stdin.isatty():
            self.stdout.write(f"Nothing was changed. Add --yes to make {_count(count)}.")
            return False
        if input(f"Make {_count(count)}? [y/N] ").strip().lower() in ("y", "yes"):
            return True
        self.stdout.write("Nothing was changed.")
        return False


def _count(number: int) -> str:
    return "1 change" if number == 1 else f"{number} changes"
