"""`manage.py export_rules --format prometheus|alertmanager`: the alert rules for who evaluates them elsewhere."""

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from incidents.rules.conditions import ConditionError
from incidents.rules.export import CREDENTIALS, FORMATS, exported


class Command(BaseCommand):
    help = "Prints the alert rules as a Prometheus rule file, or an Alertmanager configuration that sends them here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=FORMATS, required=True)
        parser.add_argument("--credentials", default=CREDENTIALS, help="the file that will hold Alertmanager's token")
        parser.add_argument("--url", default="", help="where Alertmanager finds this control plane; SITE_URL if empty")

    def handle(self, *args: object, **options: str) -> None:
        try:
            text = exported(options["format"], credentials=options["credentials"], url=options["url"])
        except ConditionError as error:
            raise CommandError(f"A rule cannot be exported: {error}\n{error.caret}") from error
        self.stdout.write(text, ending="")
