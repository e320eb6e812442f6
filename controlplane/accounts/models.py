"""People, what they may do where, and the tokens their programs sign in with."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Now

EVERYWHERE = "*"


class Role(models.TextChoices):
    """What a person may do in an environment; each role includes the ones before it."""

    VIEWER = "viewer", "viewer"
    OPERATOR = "operator", "operator"
    APPROVER = "approver", "approver"
    ADMIN = "admin", "admin"

    @property
    def rank(self) -> int:
        """Greater includes smaller."""
        return list(Role).index(self)


class Person(AbstractUser):
    """Somebody who signs in."""

    @property
    def title_name(self) -> str:
        """The name that history keeps."""
        return self.get_full_name() or self.username


class Grant(models.Model):
    """A role of a person in one scope, or everywhere ("*")."""

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="grants")
    scope = models.CharField(max_length=60)
    role = models.CharField(max_length=20, choices=Role.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="grant_once", fields=["person", "scope"]),
            models.CheckConstraint(name="grant_role_known", condition=models.Q(role__in=Role.values)),
        ]

    def __str__(self) -> str:
        return f"{self.person} is {self.role} in {self.scope}"


class ApiToken(models.Model):
    """A key for programs: only its SHA-256 is kept. Its role is a cap on its person's roles."""

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    role = models.CharField(max_length=20, choices=Role.choices)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
