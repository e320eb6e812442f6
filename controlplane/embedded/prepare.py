"""Brings all that `bin/run` needs up to date, in one process because Django's start is most of the time."""

from __future__ import annotations

import io
import os
import sys

import django
from django.core.management import call_command

# The sample's configuration, as it is meant on this computer: it can be asked for once the database is there.
FILE = "{file}"


def main(sample: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    commands = [
        ["migrate", "--no-input"],
        ["collectstatic", "--no-input", "--clear"],
        ["apply", FILE, "--yes"],
        ["demo"],
        ["demo_backups"],
        ["demo_recovery"],
        ["demo_incidents"],
    ]
    for command in commands:
        if FILE in command:
            said = io.StringIO()
            call_command("demo", "--file", sample, stdout=said)
            command[command.index(FILE)] = said.getvalue().strip()
        print("manage.py", *command, flush=True)
        call_command(*command)


if __name__ == "__main__":
    main(sys.argv[1])
