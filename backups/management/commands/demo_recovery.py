"""`manage.py demo_recovery`: what the demo of bin/run fails over: orders, and the name that leads to them."""

from django.core.management.base import BaseCommand

from backups.disaster import demo


class Command(BaseCommand):
    help = "Gives the demo a table of orders, the applications' role, and the public name; quick when it has them."

    def handle(self, *args: object, **options: object) -> None:
        demo.prepare()
