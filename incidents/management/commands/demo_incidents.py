"""`manage.py demo_incidents`: a finished incident for the demo of bin/run, made once."""

from django.core.management.base import BaseCommand

from incidents import demo


class Command(BaseCommand):
    help = "Makes the demo's finished incident, with a deployment to blame; once."

    def handle(self, *args: object, **options: object) -> None:
        demo.prepare()
