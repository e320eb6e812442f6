"""`manage.py demo`: bring the demo of bin/run up, or stop its instances."""

from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import BaseCommand

from deployments import demo


class Command(BaseCommand):
    help = "Brings the demo's releases, passwords and instances up; with --stop, stops its instances."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--file", type=Path, help="print which file to apply, for this sample, and do no more")
        parser.add_argument("--stop", action="store_true", help="stop the instances of this data folder")

    def handle(self, *args: object, **options: object) -> None:
        if isinstance(options["file"], Path):
            self.stdout.write(str(demo.configuration(options["file"])))
        elif options["stop"]:
            demo.stop()
        else:
            demo.prepare()
