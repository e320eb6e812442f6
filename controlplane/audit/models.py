"""One entry of the audit trail. The database itself refuses to change or remove it (see the migration)."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F
from django.db.models.functions import Upper


class Entry(models.Model):
    """Who did what to what, when and why. Written by `record.record` only.

    Names are kept as they were and point to nobody: deleting a person, a token or an operation changes nothing here.
    """

    # Without gaps, so that a missing entry shows: given under the lock of the chain, not by a sequence.
    id = models.BigIntegerField(primary_key=True)
    # By the database's clock, and never before the entry ahead: the order of ids is the order of times.
    at = models.DateTimeField()
    actor = models.TextField()
    actor_id = models.BigIntegerField(null=True)
    via = models.TextField()
    action = models.TextField()
    target = models.TextField()
    # The environments concerned; none means the whole installation.
    scopes = ArrayField(models.TextField(), default=list)
    reason = models.TextField(default="", blank=True)
    data = models.JSONField(default=dict)
    # Unique: a chain cannot fork.
    previous_hash = models.CharField(max_length=64, unique=True)
    hash = models.CharField(max_length=64)

    class Meta:
        verbose_name_plural = "entries"
        # Read by the audit page, each for one of its filters; listing.py says why the id behind it is negated.
        indexes = [
            models.Index(Upper("actor"), F("id") * -1, name="audit_actor"),
            models.Index(F("actor_id"), F("id") * -1, name="audit_actor_id"),
            models.Index(F("action"), F("id") * -1, name="audit_action"),
            models.Index(Upper("target"), F("id") * -1, name="audit_target"),
            models.Index(F("scopes"), F("id") * -1, name="audit_scopes"),
            models.Index(fields=["at"], name="audit_at"),
        ]

    def __str__(self) -> str:
        return f"entry {self.pk}: {self.actor} {self.action} {self.target}"

    @property
    def words(self) -> str:
        """The action as people read it: operation approved."""
        return in_words(self.action)

    @property
    def facts(self) -> list[tuple[str, Any]]:
        """What else was written down: pairs of name and value. (A template would take `data.items` for a key.)"""
        return list(self.data.items())


def in_words(action: str) -> str:
    """An action's name without its punctuation."""
    return action.replace(".", " ").replace("_", " ")
