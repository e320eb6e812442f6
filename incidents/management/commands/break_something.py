"""`manage.py break_something`: kill an instance of the demo's production, and see what follows; or mend it."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from controlplane.audit.record import SYSTEM
from controlplane.operations.errors import OperationError
from incidents import demo


class Command(BaseCommand):
    help = "Kills an instance of the demo's production without a warning; with --mend, starts what is missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--instance", default="", help="which one (default: the first that runs)")
        parser.add_argument("--mend", action="store_true", help="start what was killed again")

    def handle(self, *args: object, **options: str) -> None:
        who = SYSTEM("manage.py")
        try:
            if options["mend"]:
                demo.mend(who)
                self.stdout.write("Every instance of production runs again.")
                return
            running = [one.name for one in demo.breakable() if one.runs]
            name = options["instance"] or next(iter(running), "")
            if not name:
                raise CommandError("There is nothing to break: only the demo of bin/run may be, while it runs.")
            demo.break_instance(who, name)
        except OperationError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Killed {name}. An alert, an incident and a page follow within a minute.")
