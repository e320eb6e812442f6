"""The operational runbook: what is to be done daily, weekly and monthly, and whom one may call."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse


class RunbookTask(models.Model):
    """One line of the guide's operational runbook."""

    class Cadence(models.TextChoices):
        DAILY = "daily", "daily"
        WEEKLY = "weekly", "weekly"
        MONTHLY = "monthly", "monthly"

    slug = models.SlugField(max_length=60, unique=True)
    title = models.CharField(max_length=200)
    cadence = models.CharField(max_length=8, choices=Cadence.choices)
    position = models.PositiveSmallIntegerField(default=0)
    # By when: a cron text for the due time, in the zone.
    due = models.CharField(max_length=100)
    time_zone = models.CharField(max_length=60, default="UTC")
    owner = models.CharField(max_length=150, default="", blank=True)  # a username, or "schedule:SLUG", or nobody
    how = models.TextField(default="", blank=True)
    # A key of `incidents.runbook.checks`: what the system can see for itself; "" for what people do.
    check_key = models.CharField(max_length=60, default="", blank=True)
    paused = models.BooleanField(default=False)
    # Since when it is to be done: times before that were never missed.
    since = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["cadence", "position", "slug"]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        """The task's page, with its history."""
        return reverse("runbook-task", args=[self.slug])


class RunbookRun(models.Model):
    """One time that a task is to be done: until when, and what came of it, with the evidence."""

    class State(models.TextChoices):
        OPEN = "open", "to do"
        DONE = "done", "done"
        MISSED = "missed", "missed"  # its time is over; it can still be done late
        LATE = "late", "done late"

    task = models.ForeignKey(RunbookTask, on_delete=models.CASCADE, related_name="runs")
    opens_at = models.DateTimeField()
    due_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    owner_name = models.CharField(max_length=200, default="", blank=True)
    done_at = models.DateTimeField(null=True)
    done_by_name = models.CharField(max_length=200, default="", blank=True)
    evidence = models.TextField(default="", blank=True)
    evidence_url = models.CharField(max_length=300, default="", blank=True)
    # What the system saw when it last looked by itself, and when.
    seen = models.TextField(default="", blank=True)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-due_at"]
        constraints = [models.UniqueConstraint(name="runbook_run_once", fields=["task", "due_at"])]
        indexes = [models.Index(name="runbook_open", fields=["due_at"], condition=Q(state__in=["open", "missed"]))]

    def __str__(self) -> str:
        return f"{self.task} by {self.due_at}"


class Contact(models.Model):
    """Somebody outside of the escalation: AWS support, the database admin, security, legal."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    position = models.PositiveSmallIntegerField(default=0)
    email = models.EmailField(default="", blank=True)
    phone = models.CharField(max_length=60, default="", blank=True)
    url = models.URLField(max_length=300, default="", blank=True)
    how = models.CharField(max_length=300, default="", blank=True)  # "Premium support case"

    class Meta:
        ordering = ["position", "slug"]

    def __str__(self) -> str:
        return self.name


class AuditorAlarm(models.Model):
    """A broken promise that the auditor found (`manage.py auditor`); it writes here by SQL of its own."""

    key = models.CharField(max_length=200)  # which invariant, of which row
    words = models.TextField()
    raised_at = models.DateTimeField(db_default=Now())
    told_at = models.DateTimeField(null=True)  # its own channel took it
    over_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="auditor_alarm_once", fields=["key"], condition=Q(over_at__isnull=True))
        ]

    def __str__(self) -> str:
        return self.key


class AuditorBeat(models.Model):
    """When an auditor last looked."""

    name = models.CharField(max_length=200, unique=True)
    beat_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.name} at {self.beat_at}"
