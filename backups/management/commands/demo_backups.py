"""`manage.py demo_backups`: the data that the demo of bin/run backs up, and its first backups."""

from django.core.management.base import BaseCommand

from backups import demo


class Command(BaseCommand):
    help = "Gives the demo's production a database with data, uploads and first backups; quick when it has them."

    def handle(self, *args: object, **options: object) -> None:
        demo.prepare()
