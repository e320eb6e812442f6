import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Watch the incident engine from outside, and alarm by a channel of its own when it breaks a promise."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="look once, tell, and end")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        """Become a process that has loaded nothing of the control plane."""
        path = os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")]))
        arguments = ["--once"] if once else []
        os.execve(  # noqa: S606 - our own interpreter and our own module
            sys.executable,
            [sys.executable, "-P", "-m", "incidents.auditor", *arguments],
            {**os.environ, "PYTHONPATH": path},
        )
