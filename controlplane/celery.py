"""The Celery application: a doorbell for workers, see docs/operations.md."""

import os
from typing import Any

import django
from celery import Celery
from celery.signals import worker_init
from django.core.management import call_command
from django.core.management.base import SystemCheckError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
# Celery would run all checks, the one of the addresses loads every page (20 MB a worker), and look at no result.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("controlplane")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
def check_settings(**_kwargs: Any) -> None:
    """Stop the start when a setting is wrong, as `manage.py` does."""
    django.setup()
    try:
        call_command("check", tags=["controlplane"])
    except SystemCheckError as error:
        raise SystemExit(str(error)) from error
