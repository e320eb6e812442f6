"""`manage.py catalog`: count the catalog, or read it back from the storages alone."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count

from backups.catalog import rebuild
from backups.models import Backup, Storage
from controlplane.audit.record import SYSTEM
from controlplane.operations.errors import StepError


class Command(BaseCommand):
    help = "Says what the catalog knows; with --rebuild, enters every backup that stands in a storage and is not known."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rebuild", action="store_true", help="read the manifests that stand in the storages")
        parser.add_argument("--storage", default="", help="only this one")

    def handle(self, *args: object, **options: object) -> None:
        storages = Storage.objects.filter(slug=options["storage"]) if options["storage"] else Storage.objects.all()
        if not storages:
            raise CommandError("There is no such storage. Declare it in the configuration file, then apply the file.")
        if options["rebuild"]:
            self._rebuild(list(storages))
        states = Backup.objects.filter(storage__in=storages).values_list("storage__slug", "state")
        for slug, state, count in states.annotate(Count("pk")).order_by("storage__slug", "state"):
            print(f"{slug}: {count} {state}")

    def _rebuild(self, storages: list[Storage]) -> None:
        failed = False
        for storage in storages:
            try:
                found = rebuild(storage, SYSTEM("manage.py catalog"))
            except StepError as error:
                raise CommandError(f"{storage}: {error}") from error
            print(f"{storage}: {found.entered} entered, {found.known} known already, {found.ranges} ranges of WAL")
            for problem in found.problems or []:
                self.stderr.write(f"{storage}: {problem}")
                failed = True
        if failed:
            raise CommandError("Not all of it could be read; what is named above was left out.")
