"""`manage.py auditor`, or `python -m incidents.auditor` where not even Django can be loaded."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

from incidents.auditor.settings import WrongSetting, settings_of
from incidents.auditor.watch import Auditor


def main(arguments: list[str] | None = None) -> int:
    """0 after a stop in order; with --once, 1 when the database could not be asked; 2 for a wrong setting."""
    parser = argparse.ArgumentParser(prog="manage.py auditor", description="Watch the incident engine from outside.")
    parser.add_argument("--once", action="store_true", help="look once, tell, and end")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        auditor = Auditor(settings_of(os.environ))
    except WrongSetting as error:
        sys.stderr.write(f"auditor: {error}\n")
        return 2
    if options.once:
        return 0 if auditor.once() else 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: auditor.stopping.set())
    sys.stderr.write(f"auditor {auditor.settings.name}: a look every {auditor.settings.seconds:g} s\n")
    auditor.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
