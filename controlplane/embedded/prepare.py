"""Brings all that `bin/run` needs up to date, in one process because Django's start is most of the time."""

from __future__ import annotations

import os
import sys

import django
from django.core.management import call_command


def main(sample: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    commands = [
        ["migrate", "--no-input"],
        ["collectstatic", "--no-input", "--clear"],
        ["apply", sample, "--yes"],
        ["demo"],
        ["demo_backups"],
        ["demo_incidents"],
    ]
    for command in commands:
        print("manage.py", *command, flush=True)
        call_command(*command)


if __name__ == "__main__":
    main(sys.argv[1])
