"""The clock's look for drift, at once."""

from datetime import timedelta

from django.db.models.functions import Now

from environments.drift import look_due
from environments.models import DriftWatch


def look() -> None:
    """What is deployed is compared now, whenever its next look would be."""
    look_due()  # whatever was never looked at gets its watch
    DriftWatch.objects.update(due_at=Now() - timedelta(seconds=1))
    assert look_due() == 1
