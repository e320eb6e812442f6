"""`bin/chaos [operations|backups|incidents|failover] --rounds N --json`: bad luck, judged from outside.

See docs/chaos.md.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import django

from controlplane.embedded.stack import Stack

WRONG_FAILOVER = ("two_primaries", "lost_beyond_rpo", "stuck", "wrong_end")
WRONG_INCIDENTS = ("lost", "doubled", "after_ack", "stuck")
WRONG_BACKUPS = ("false_green", "lost", "orphans", "stuck", "false_red")
WRONG = (
    "wrong_end", "repeated_effects", "lost_events", "doubled_events", "stuck", "stale_writes", "unseen_starts",
)  # fmt: skip
SETTINGS = {
    "BACKGROUND_OPERATIONS": "20",  # each policy at its own pace
    "DJANGO_SETTINGS_MODULE": "controlplane.settings",
    "HTTPS": "false",
    "LOG_LEVEL": "WARNING",
    "OPERATION_LEASE_SECONDS": "4",
    "OPERATION_HEARTBEAT_SECONDS": "0.8",
}


# What: the rounds, which need Django, and the figures that have to be zero.
ROUNDS = {
    "operations": ("tests.chaos.rounds", WRONG),
    "backups": ("tests.chaos.backups.rounds", WRONG_BACKUPS),
    "incidents": ("tests.chaos.incidents.rounds", WRONG_INCIDENTS),
    "failover": ("tests.chaos.failover.rounds", WRONG_FAILOVER),
}
# Nobody listens there: people are paged without Redis.
NO_REDIS = "redis://127.0.0.1:1/0"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/chaos", description=__doc__)
    parser.add_argument("what", nargs="?", default="operations", choices=list(ROUNDS))
    parser.add_argument("--rounds", type=int, default=30, help="each with one piece of bad luck")
    parser.add_argument("--fleets", type=int, default=6, help="how many go on at the same time")
    parser.add_argument("--driver", choices=["local", "hosts"], default="local", help="only operations: of the fleets")
    parser.add_argument("--seed", type=int, default=None, help="repeat an earlier run's choice of faults")
    parser.add_argument("--json", action="store_true", help="print the figures alone")
    parser.add_argument("--keep", action="store_true", help="leave the data folder for a look")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="controlplane-chaos-"))
    folder.chmod(0o711)
    for name in ("DATABASE_URL", "REDIS_URL", "STATIC_ROOT"):
        os.environ.pop(name, None)  # never anybody's real servers, nor the files of a test run that starts this
    backups = arguments.what == "backups"
    without = {"REDIS_URL": NO_REDIS} if arguments.what == "incidents" else {}
    module, wrong = ROUNDS[arguments.what]
    with Stack(folder, demo=backups, environ={**os.environ, **without}) as stack:
        os.environ.update({**stack.env, **SETTINGS, **without})
        if backups:
            # Sockets of scratch servers go here, so that those of others on this machine are not taken for ours.
            (folder / "tmp").mkdir(mode=0o711)
            os.environ["TMPDIR"] = str(folder / "tmp")
        django.setup()
        figures = import_module(module).Chaos(stack, folder, arguments).run()
    if arguments.keep:
        print(f"kept: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures))
    return 0 if not any(figures[key] for key in wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
