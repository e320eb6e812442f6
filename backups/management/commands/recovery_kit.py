"""`manage.py recovery_kit`: the bundle that carries a recovery plan out when the control plane is gone, and back."""

import getpass
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from backups.disaster.kit.bundle import check_kit, make_kit
from backups.disaster.kit.duties import export
from backups.disaster.kit.importing import import_journal
from backups.disaster.kit.script.journal import LONGEST_JOURNAL
from backups.disaster.kit.signing import public_key
from backups.models import RecoveryPlan
from controlplane.audit.record import SYSTEM
from controlplane.clock.database import database_time
from controlplane.operations.errors import OperationError, StepError

LARGEST_KIT = 16 * 1024 * 1024


class Command(BaseCommand):
    help = "Exports and checks recovery kits, imports the journals of those that were used, and says the public key."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        exporting = actions.add_parser("export", help="make a kit")
        exporting.add_argument("plan", metavar="PLAN", help="the plan's name in the configuration file")
        exporting.add_argument("--to", type=Path, help="a folder; without it, the plan's kit_storage")
        verifying = actions.add_parser("verify", help="is this file what was signed?")
        verifying.add_argument("file", metavar="FILE", type=Path)
        verifying.add_argument("--key", action="append", help="a public key in hex, if not this control plane's own")
        importing = actions.add_parser("import", help="bring the journal of a kit into the history")
        importing.add_argument("journal", metavar="JOURNAL", type=Path)
        importing.add_argument("--plan", metavar="PLAN", required=True)
        importing.add_argument("--key", action="append", help="the key of a kit that was signed before a change of it")
        actions.add_parser("key", help="the public key, for paper")

    def handle(self, *args: object, **options: Any) -> None:
        try:
            {"export": _export, "verify": _verify, "import": _import, "key": _key}[options["action"]](options)
        except (OperationError, StepError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename or ''}: {error.strerror}") from error


def _plan(slug: str) -> RecoveryPlan:
    plan = RecoveryPlan.objects.select_related("primary", "standby", "kit_storage").filter(slug=slug).first()
    if plan is None:
        names = ", ".join(RecoveryPlan.objects.values_list("slug", flat=True)) or "none at all"
        raise CommandError(f"There is no recovery plan {slug}; there is {names}.")
    return plan


def _export(options: dict[str, Any]) -> None:
    plan = _plan(options["plan"])
    if options["to"] is None:
        row = export(plan)
        print(f"{plan.kit_storage}: {row.key}  sha256 {row.digest}")
        return
    kit = make_kit(plan, database_time())
    path = options["to"] / kit.name
    path.write_bytes(kit.content)
    print(f"{path}  sha256 {kit.digest}")


def _verify(options: dict[str, Any]) -> None:
    plan = check_kit(_read(options["file"], LARGEST_KIT), options["key"])
    words = f"from {plan['from']['environment']} to {plan['to']['environment']}, made {plan['made_at']}"
    print(f"The kit is whole and signed: {plan['plan']['slug']}, {words}.")


def _import(options: dict[str, Any]) -> None:
    content = _read(options["journal"], LONGEST_JOURNAL)
    imported = import_journal(content, _plan(options["plan"]), SYSTEM(f"manage.py, {_login()}"), options["key"])
    print(f"{imported.run.outcome}, by {imported.run.by_name}: {imported.words}")


def _login() -> str:
    """Who is at this machine, for the history: as far as it is known here."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _key(options: dict[str, Any]) -> None:
    print(public_key())


def _read(path: Path, most: int) -> bytes:
    if path.is_file() and path.stat().st_size > most:
        raise CommandError(f"{path} is too large for what it should be.")
    return path.read_bytes()
