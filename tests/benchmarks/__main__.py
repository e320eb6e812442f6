"""`bin/bench NAME --json`: figures as ratios against a baseline measured in the same run. See docs/figures.md.

Ends with 1 where a figure misses what was promised of it."""

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import django
from django.core.management import call_command

from controlplane.embedded.stack import Stack
from tests.benchmarks.promises import missed

NAMES = (
    "alerts",
    "backup",
    "canary",
    "catalog",
    "engine",
    "escalation",
    "failover",
    "history",
    "live",
    "log",
    "numbers",
    "rolling",
    "world",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a list")
    parser.add_argument("--mb", type=int, help="only backup: the size of its database, 1024 for the promised figures")
    arguments = parser.parse_args()
    options = {"mb": arguments.mb} if arguments.mb else {}
    folder = Path(tempfile.mkdtemp(prefix="controlplane-bench-"))
    folder.chmod(0o711)
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)  # never anybody's real servers
    # Durable servers, as in a real installation: a figure without fsync would be a lie.
    with Stack(folder) as stack:
        settings = {"DJANGO_SETTINGS_MODULE": "controlplane.settings", "HTTPS": "false", "LOG_LEVEL": "WARNING"}
        os.environ.update(stack.env, **settings)
        django.setup()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        bench = importlib.import_module(f"tests.benchmarks.{arguments.name}")
        figures = bench.run(**options)
    shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps({"bench": arguments.name, "figures": figures}))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value}")
    words = missed(figures, getattr(bench, "PROMISED", {}))
    for one in words:
        print(one, file=sys.stderr)
    return 1 if words else 0


if __name__ == "__main__":
    sys.exit(main())
