"""Releases of services, and the deployments that bring them to environments."""

from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from controlplane.operations.models import Operation
from environments.models import Environment, Service


class Release(models.Model):
    """One built version of a service. The digest names the image for good; a tag may move."""

    class CI(models.TextChoices):
        PASSED = "passed", "passed"
        FAILED = "failed", "failed"
        PENDING = "pending", "running"
        UNKNOWN = "", "not known"

    class Migrations(models.TextChoices):
        NONE = "none", "none"
        REVERSIBLE = "reversible", "can be taken back"
        ONE_WAY = "one-way", "cannot be taken back"
        UNKNOWN = "", "not known"

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="releases")
    version = models.CharField(max_length=100)
    image = models.CharField(max_length=300)
    digest = models.CharField(max_length=80)
    commit = models.CharField(max_length=80, default="", blank=True)
    ci = models.CharField(max_length=10, choices=CI.choices, default=CI.UNKNOWN, blank=True)
    # Whether what it changes in the database can be taken back, as its pipeline says.
    migrations = models.CharField(max_length=10, choices=Migrations.choices, default=Migrations.UNKNOWN, blank=True)
    created_by_name = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(name="release_version_once", fields=["service", "version"])]
        indexes = [models.Index(name="release_newest", fields=["service", "-id"])]

    def __str__(self) -> str:
        return f"{self.service} {self.version}"

    def get_absolute_url(self) -> str:
        """The release's page."""
        return reverse("release", args=[self.service.slug, self.version])


class ReleaseCommits(models.Model):
    """The newest commits of a release's history, along its first parents, as its pipeline reported them.

    A table of its own, so that no list of releases loads them. commits: its own first, then older and older ones:
    [{"sha", "author", "at", "title"}]. Nothing of it is changed afterwards; older ones may be added.
    """

    release = models.OneToOneField(Release, on_delete=models.CASCADE, primary_key=True, related_name="history")
    commits = models.JSONField()

    class Meta:
        verbose_name_plural = "release commits"

    def __str__(self) -> str:
        return f"commits of {self.release}"


class Deployment(models.Model):
    """A release brought to an environment: what the operation `operation` is about."""

    class Kind(models.TextChoices):
        DEPLOY = "deploy", "deploy"
        ROLLBACK = "rollback", "roll back"

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, primary_key=True, related_name="deployment")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.DEPLOY)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="deployments")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="deployments")
    strategy = models.CharField(max_length=20, default="rolling")  # a key of `strategies.STRATEGIES`
    from_version = models.TextField(default="", blank=True)  # several, in the middle of a change
    from_digest = models.CharField(max_length=80, default="", blank=True)

    class Meta:
        indexes = [
            models.Index(name="deployment_environment", fields=["environment", "-operation"]),
            models.Index(name="deployment_release", fields=["release", "-operation"]),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.release} to {self.environment}"
