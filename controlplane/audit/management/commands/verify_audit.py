"""manage.py verify_audit: walk the chain of the audit trail, and name the first entry that does not hold."""

from collections.abc import Generator
from contextlib import closing
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from controlplane.audit.chain import Broken, verify
from controlplane.audit.models import Entry

BATCH = 2_000


def _entries() -> Generator[Entry, None, None]:
    yield from Entry.objects.order_by("pk").iterator(chunk_size=BATCH)


class Command(BaseCommand):
    help = "Check every entry of the audit trail. Exit code 1 names the first broken entry."

    def add_arguments(self, parser: CommandParser) -> None:
        """What the chain must hold."""
        parser.add_argument(
            "--expect",
            default="",
            metavar="HASH",
            help="a head that was printed earlier and kept elsewhere: fails if the chain does not hold it any more",
        )

    def handle(self, *args: Any, expect: str, **options: Any) -> None:
        """Read with a cursor of the server, in one snapshot, so neither memory nor writers matter."""
        try:
            with transaction.atomic(), closing(_entries()) as entries:
                verified = verify(entries, expect)
        except Broken as broken:
            raise CommandError(f"The audit trail is broken: {broken}.") from broken
        self.stdout.write(f"{verified.count} entries hold. Head: {verified.head}")
