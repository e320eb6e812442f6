"""Making a configuration file so: check all of it, show the difference, then change everything or nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from controlplane.audit.record import Who, record
from controlplane.live.ring import ring
from controlplane.operations.errors import Conflict
from environments.declarations.reading import FileError, open_table
from environments.declarations.sections import Change, Section, sections

# Any number: two of these wait for each other.
APPLY_LOCK = 4_857_110_041


@dataclass(frozen=True)
class Declaration:
    """A file without problems."""

    parts: tuple[tuple[Section, Any], ...]

    def changes(self) -> list[Change]:
        """How what exists differs from it now."""
        return [change for section, declared in self.parts for change in section.changes(declared)]

    def left_alone(self) -> list[str]:
        """What exists and is not in it, in words."""
        return [words for section, declared in self.parts for words in section.left_alone(declared)]


def read(file: Path) -> Declaration:
    """Check the whole file. Raises FileError with everything that is wrong; changes nothing."""
    table = open_table(file)
    parts = tuple((section, section.read(table)) for section in sections())
    table.end()
    if table.problems:
        raise FileError(file, sorted(table.problems, key=lambda problem: problem.path))
    return Declaration(parts)


def make_so(declaration: Declaration, shown: list[Change], who: Who) -> None:
    """Make the changes that were shown, in one transaction. Raises Conflict when they are not the same any more."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [APPLY_LOCK])
        changes = declaration.changes()
        if [str(change) for change in changes] != [str(change) for change in shown]:
            raise Conflict("Something changed since the difference was shown. Run it again and read the new one.")
        for change in changes:
            change.make()
        # The trail's lock is taken last: whoever holds it must not wait for anything else.
        for trace in (change.trace for change in changes if change.trace):
            record(who, trace.action, trace.target, scopes=trace.scopes, reason="manage.py apply", data=trace.data)
        transaction.on_commit(lambda: ring("news", "environments health"))
