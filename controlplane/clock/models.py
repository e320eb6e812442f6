from datetime import datetime

from django.db import models
from django.db.models.functions import Now


class Beat(models.Model):
    """A sign of life of one clock process, by database time."""

    name = models.CharField(max_length=200, unique=True)
    started_at = models.DateTimeField(db_default=Now())
    beat_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.name} at {self.beat_at}"


def last_beat() -> datetime | None:
    """When any clock was last alive; None if there never was one."""
    return Beat.objects.order_by("-beat_at").values_list("beat_at", flat=True).first()
