"""`bin/manage [--data var] COMMAND …`: manage.py with the environment and the servers of a data folder.

While bin/run has the folder, the command uses its servers. Otherwise embedded servers are started for as long as the
command runs. Where DATABASE_URL and REDIS_URL are set, those are used.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import StackError
from .files import read_json
from .lock import HeldError, hold
from .place import CHECKOUT
from .stack import Stack, open_data_folder


def split(arguments: list[str]) -> tuple[Path, list[str]]:
    """The data folder, which only leading arguments name, and the command."""
    if arguments[:1] == ["--data"] and len(arguments) > 1:
        return Path(arguments[1]), arguments[2:]
    if arguments and arguments[0].startswith("--data="):
        return Path(arguments[0].partition("=")[2]), arguments[1:]
    return CHECKOUT / "var", arguments


def call(command: list[str], env: Mapping[str, str]) -> int:
    """Run manage.py to its end. Ctrl-C reaches it from the terminal; SIGTERM is handed on."""
    process = subprocess.Popen([sys.executable, str(CHECKOUT / "manage.py"), *command], env={**os.environ, **env})
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    on_terminate = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
        signal.signal(signal.SIGTERM, on_terminate)


def main(arguments: list[str]) -> int:
    """The command's exit status, or 1 if the servers cannot be had."""
    folder, command = split(arguments)
    try:
        data = open_data_folder(folder)
        try:
            with hold(data, f"bin/manage {' '.join(command)}"), Stack(data) as stack:
                return call(command, stack.env)
        except HeldError:
            running = read_json(data / "stack.json")
            if not running:
                raise
            return call(command, running["env"])
    except StackError as error:
        print(f"bin/manage: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
