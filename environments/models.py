"""What exists: environments, services, where each service is placed, its configuration and its health."""

import re

from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from controlplane.operations.models import Operation

LONG_DIGEST = re.compile(r"\b(sha256:[0-9a-f]{4})[0-9a-f]{8,}([0-9a-f]{4})\b")


class Environment(models.Model):
    """A place where software runs. Its slug is the scope that operations lock and people have roles in."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    purpose = models.CharField(max_length=200, default="", blank=True)
    url = models.URLField(max_length=300, default="", blank=True)
    position = models.PositiveSmallIntegerField(default=0)
    # How to talk to it: a key of `drivers.DRIVERS`, and what that driver needs to know.
    driver = models.CharField(max_length=40)
    driver_settings = models.JSONField(default=dict, blank=True)
    # How many people, other than the one who asks, must approve a change.
    approvals_required = models.PositiveSmallIntegerField(default=0)
    # A release must have run there first ("" for none): staging, for production.
    promoted_from = models.CharField(max_length=60, default="", blank=True)

    class Meta:
        ordering = ["position", "slug"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """The environment's page."""
        return reverse("environment", args=[self.slug])


class Service(models.Model):
    """A piece of software that is released and deployed as one."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Placement(models.Model):
    """A service in an environment: its instances, how to ask for its health, and what runs since when."""

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="placements")
    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="placements")
    # [{"name": "production-1", "address": "http://127.0.0.1:4101"}]: where each instance answers.
    instances = models.JSONField(default=list)
    health_path = models.CharField(max_length=200, default="/health")
    driver_settings = models.JSONField(default=dict, blank=True)
    # What the last deployment that succeeded left there; what truly runs is asked of the driver.
    version = models.CharField(max_length=100, default="", blank=True)
    digest = models.CharField(max_length=80, default="", blank=True)
    since = models.DateTimeField(null=True, blank=True)
    changed_by = models.CharField(max_length=200, default="", blank=True)
    changed_in = models.BigIntegerField(null=True, blank=True)  # the operation's number
    # How it was left beside the release, in the driver's own words: see `drivers.base.Leaving`.
    left = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["environment__position", "service__slug"]
        constraints = [models.UniqueConstraint(name="placement_once", fields=["environment", "service"])]

    def __str__(self) -> str:
        return f"{self.service.slug} in {self.environment.slug}"


class Arrival(models.Model):
    """What should run at a placement became something else: by a deployment, an adoption, a restore or a failover.

    What was found running instead, started by hand, is in none: it was never what should run there.
    """

    placement = models.ForeignKey(Placement, on_delete=models.CASCADE, related_name="arrivals")
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="+")
    version = models.CharField(max_length=100, default="", blank=True)
    digest = models.CharField(max_length=80, default="", blank=True)
    # What should have run until then; where nobody had said, what was found running.
    over_version = models.TextField(default="", blank=True)
    over_digest = models.CharField(max_length=80, default="", blank=True)

    class Meta:
        # Read by "Roll back" and its gate: how this digest came there, newest first.
        indexes = [models.Index(name="arrival_newest", fields=["placement", "digest", "-id"])]

    def __str__(self) -> str:
        return f"{self.version or 'nothing'} came to {self.placement}"


class ConfigEntry(models.Model):
    """One variable of an environment's configuration: a plain value, or a reference to a secret, never its value."""

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="configuration")
    key = models.CharField(max_length=100)
    value = models.TextField(default="", blank=True)
    secret = models.CharField(max_length=300, default="", blank=True)  # "file:…", "env:…", "aws:…"

    class Meta:
        ordering = ["key"]
        constraints = [
            models.UniqueConstraint(name="config_key_once", fields=["environment", "key"]),
            models.CheckConstraint(name="config_value_or_secret", condition=models.Q(value="") | models.Q(secret="")),
        ]

    def __str__(self) -> str:
        return self.key


class EnvironmentLock(models.Model):
    """Somebody's word that nothing may change here for now, with the reason. Released, never deleted."""

    class Against(models.TextChoices):
        EVERYTHING = "everything", "every change"
        DEPLOYMENTS = "deployments", "deployments"  # the way back stays open: an incident's lock

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="holds")
    against = models.CharField(max_length=12, choices=Against.choices, default=Against.EVERYTHING)
    reason = models.TextField()
    author_name = models.CharField(max_length=200)
    taken_at = models.DateTimeField(db_default=Now())
    released_at = models.DateTimeField(null=True, blank=True)
    released_by_name = models.CharField(max_length=200, default="", blank=True)

    class Meta:
        ordering = ["-taken_at"]
        indexes = [
            models.Index(
                name="environment_lock_open", fields=["environment"], condition=models.Q(released_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.environment}: {self.reason}"


class HealthSample(models.Model):
    """What one probe of one instance heard. Kept for a day; the guide's load balancer asks every 30 s."""

    placement = models.ForeignKey(Placement, on_delete=models.CASCADE, related_name="samples")
    instance = models.CharField(max_length=100)
    at = models.DateTimeField(db_default=Now())
    healthy = models.BooleanField()
    in_rotation = models.BooleanField(null=True)  # None: it does not say (no /ready)
    status = models.PositiveSmallIntegerField(null=True)  # HTTP; None when nobody answered
    latency_ms = models.FloatField(null=True)
    version = models.CharField(max_length=100, default="", blank=True)
    words = models.CharField(max_length=300, default="", blank=True)

    class Meta:
        # Read by the board and the environment page: the latest of each placement.
        indexes = [models.Index(name="health_latest", fields=["placement", "-at"])]

    def __str__(self) -> str:
        return f"{self.instance}: {self.words}"


class ProbeSchedule(models.Model):
    """When a placement is probed next; a row of its own, so that many clocks share the work with SKIP LOCKED."""

    placement = models.OneToOneField(Placement, on_delete=models.CASCADE, related_name="probe")
    due_at = models.DateTimeField(db_default=Now())
    interval_seconds = models.PositiveIntegerField(default=30)

    def __str__(self) -> str:
        return f"{self.placement} every {self.interval_seconds} s"


class DriftWatch(models.Model):
    """When a placement is next compared with what was deployed there, and since when nobody could ask."""

    placement = models.OneToOneField(Placement, on_delete=models.CASCADE, related_name="drift_watch")
    due_at = models.DateTimeField(db_default=Now())
    # Counts the looks: what an earlier look brings is not written over what a later one said.
    look = models.BigIntegerField(default=0)
    # The last time the place said what runs; none: never since something was deployed.
    known_at = models.DateTimeField(null=True, blank=True)
    # Why it cannot be asked now, in words; "": it answered.
    unknown = models.CharField(max_length=500, default="", blank=True)
    unknown_since = models.DateTimeField(null=True, blank=True)

    class Meta:
        # Read by the clock each second or two: what is due.
        indexes = [models.Index(name="drift_due", fields=["due_at"])]

    def __str__(self) -> str:
        return f"{self.placement} compared"


class Drift(models.Model):
    """One thing that ran otherwise than it was deployed, from when it was seen until it was not any more."""

    placement = models.ForeignKey(Placement, on_delete=models.CASCADE, related_name="drifts")
    what = models.CharField(max_length=20)  # "image", "count", "environment" or "registration"
    subject = models.CharField(max_length=200)
    wanted = models.CharField(max_length=500)
    found = models.CharField(max_length=500)
    began_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-began_at", "what", "subject"]
        indexes = [
            # Read by the board and by each look: what differs now.
            models.Index(name="drift_open", fields=["placement"], condition=models.Q(ended_at__isnull=True)),
            # Read by the environment's page: the last that ended.
            models.Index(name="drift_ended", fields=["placement", "-ended_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.subject}: {self.found}, not {self.wanted}"

    @property
    def found_shortly(self) -> str:
        """What runs, for lists: digests short enough to compare by eye."""
        return LONG_DIGEST.sub(r"\1…\2", self.found)

    @property
    def wanted_shortly(self) -> str:
        """The same for what was deployed."""
        return LONG_DIGEST.sub(r"\1…\2", self.wanted)
