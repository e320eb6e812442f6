"""`bin/chaos [operations] --rounds N --json`: bad luck, judged from outside. See docs/chaos.md."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import django

from controlplane.embedded.stack import Stack

WRONG = ("wrong_end", "repeated_effects", "lost_events", "doubled_events", "stuck", "stale_writes")
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "controlplane.settings",
    "HTTPS": "false",
    "LOG_LEVEL": "WARNING",
    "OPERATION_LEASE_SECONDS": "4",
    "OPERATION_HEARTBEAT_SECONDS": "0.8",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/chaos", description=__doc__)
    parser.add_argument("what", nargs="?", default="operations", choices=["operations"])
    parser.add_argument("--rounds", type=int, default=30, help="deployments with one piece of bad luck each")
    parser.add_argument("--fleets", type=int, default=6, help="environments that deploy at the same time")
    parser.add_argument("--seed", type=int, default=None, help="repeat an earlier run's choice of faults")
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    parser.add_argument("--keep", action="store_true", help="leave the data folder for a look")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="controlplane-chaos-"))
    folder.chmod(0o711)
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)  # never anybody's real servers
    with Stack(folder) as stack:
        os.environ.update(stack.env, **SETTINGS)
        django.setup()
        from tests.chaos.rounds import Chaos  # noqa: PLC0415 - needs Django

        figures = Chaos(stack, folder, arguments).run()
    if arguments.keep:
        print(f"kept: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures))
    return 0 if not any(figures[key] for key in WRONG) else 1


if __name__ == "__main__":
    sys.exit(main())
