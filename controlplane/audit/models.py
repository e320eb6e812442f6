"""The audit trail: append-only, hash-chained. The database itself refuses to change or delete an entry."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class Entry(models.Model):
    """Who did what, to what, when and why. Names are text: deleting a person erases nothing here."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=200)
    actor_id = models.BigIntegerField(null=True)
    via = models.CharField(max_length=200)
    action = models.CharField(max_length=80)
    target = models.CharField(max_length=300)
    scopes = ArrayField(models.CharField(max_length=60), default=list)  # empty: the whole installation
    reason = models.TextField(default="", blank=True)
    data = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        indexes = [
            models.Index(name="audit_actor", fields=["actor", "-id"]),
            models.Index(name="audit_action", fields=["action", "-id"]),
            models.Index(name="audit_target", fields=["target", "-id"]),
            models.Index(name="audit_at", fields=["at"]),
            GinIndex(name="audit_scopes", fields=["scopes"]),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
