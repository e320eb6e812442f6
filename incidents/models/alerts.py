"""Alerts: who may send them, the raw bodies as they came, what they say, and which rules raise our own."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from environments.models import Environment


class AlertSeverity(models.TextChoices):
    """The words of the guide's alert configuration."""

    CRITICAL = "critical", "critical"
    WARNING = "warning", "warning"
    INFO = "info", "info"


class AlertSource(models.Model):
    """Who may send alerts, and in which form. `own` are the control plane's own findings; nobody can post those."""

    class Kind(models.TextChoices):
        ALERTMANAGER = "alertmanager", "Alertmanager webhook (v4)"
        PAGERDUTY = "pagerduty", "PagerDuty Events v2"
        PLAIN = "plain", "plain JSON"
        OWN = "own", "the control plane itself"

    slug = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    # SHA-256 of the bearer token (Alertmanager, plain) or of the routing key (PagerDuty); the value is stored nowhere.
    token_digest = models.CharField(max_length=64, unique=True, null=True, blank=True)
    # The reference of a secret: with one, each body must carry its HMAC-SHA256 in the header X-Signature-256.
    signing_secret = models.CharField(max_length=300, default="", blank=True)
    # Where its alerts belong when their labels name no environment.
    environment = models.ForeignKey(Environment, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    paused = models.BooleanField(default=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class RawAlert(models.Model):
    """One body as it came: stored before anything thinks about it, and kept until long after it was handled."""

    class State(models.TextChoices):
        STORED = "stored", "stored"
        HANDLED = "handled", "handled"
        FAILED = "failed", "not understood"  # a person may look at it and have it handled again

    source = models.ForeignKey(AlertSource, on_delete=models.PROTECT, related_name="+", db_index=False)
    received_at = models.DateTimeField(db_default=Now())
    body = models.BinaryField()
    state = models.CharField(max_length=10, choices=State.choices, db_default=State.STORED)
    attempts = models.PositiveSmallIntegerField(db_default=0)
    next_at = models.DateTimeField(db_default=Now())
    error = models.TextField(db_default="", blank=True)
    handled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # Read by the clock: only the few that wait.
            models.Index(name="raw_alert_waiting", fields=["next_at", "id"], condition=Q(state="stored")),
            # Read by the alerts page, and by those who look after trouble.
            models.Index(name="raw_alert_failed", fields=["-id"], condition=Q(state="failed")),
            # Read by the clock, to forget old bodies.
            models.Index(name="raw_alert_received", fields=["received_at"]),
        ]

    def __str__(self) -> str:
        return f"body {self.pk} of {self.source_id}"


class Alert(models.Model):
    """One thing that is wrong, however often it is said: a row for each fingerprint of a source, for good.

    What a person wrote (`note`) is never touched by a later firing.
    """

    class State(models.TextChoices):
        FIRING = "firing", "firing"
        RESOLVED = "resolved", "resolved"

    source = models.ForeignKey(AlertSource, on_delete=models.PROTECT, related_name="alerts")
    fingerprint = models.CharField(max_length=64)
    state = models.CharField(max_length=10, choices=State.choices)
    name = models.CharField(max_length=200)
    severity = models.CharField(max_length=10, choices=AlertSeverity.choices)
    environment = models.ForeignKey(Environment, null=True, on_delete=models.PROTECT, related_name="alerts")
    summary = models.CharField(max_length=500, default="", blank=True)
    labels = models.JSONField(default=dict)
    annotations = models.JSONField(default=dict)
    url = models.CharField(max_length=500, default="", blank=True)  # where it came from, for people

    first_at = models.DateTimeField(db_default=Now())  # ever
    started_at = models.DateTimeField()  # this time
    last_at = models.DateTimeField()  # last heard of
    ended_at = models.DateTimeField(null=True)
    count = models.PositiveIntegerField(default=1)  # how often it was said, all in all
    # Turns between firing and resolved since `turns_since`: too many within the damping window is flapping.
    turns = models.PositiveSmallIntegerField(default=0)
    turns_since = models.DateTimeField(null=True)
    flapping_until = models.DateTimeField(null=True)
    silence = models.ForeignKey("incidents.Silence", null=True, on_delete=models.SET_NULL, related_name="alerts")
    incident = models.ForeignKey("incidents.Incident", null=True, on_delete=models.SET_NULL, related_name="alerts")
    # What its incident was told of it last: "", "firing" or "resolved"; and when it is to be told what is so now.
    heard = models.CharField(max_length=10, default="", blank=True)
    due_at = models.DateTimeField(null=True)
    # When its source said that somebody has it; None again once its incident was acknowledged.
    acknowledge_at = models.DateTimeField(null=True)
    note = models.TextField(default="", blank=True)
    note_by_name = models.CharField(max_length=200, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="alert_once", fields=["source", "fingerprint"])]
        indexes = [
            # Read by the clock: only those that an incident has not heard of yet.
            models.Index(name="alert_due", fields=["due_at", "id"], condition=Q(due_at__isnull=False)),
            models.Index(
                name="alert_acknowledge", fields=["acknowledge_at"], condition=Q(acknowledge_at__isnull=False)
            ),
            models.Index(name="alert_firing", fields=["-id"], condition=Q(state="firing")),
            models.Index(name="alert_of_incident", fields=["incident", "-id"]),
            models.Index(name="alert_of_environment", fields=["environment", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.state})"


class Silence(models.Model):
    """Alerts that match open no incident and page nobody for a time: somebody's word, or a maintenance window.

    matchers: [{"label": "alertname", "op": "=", "value": "HighErrorRate"}], op one of = != =~ !~; all must hold.
    """

    class Kind(models.TextChoices):
        SILENCE = "silence", "silence"
        MAINTENANCE = "maintenance", "maintenance window"

    kind = models.CharField(max_length=12, choices=Kind.choices, default=Kind.SILENCE)
    matchers = models.JSONField(default=list)
    environment = models.ForeignKey(Environment, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.TextField()
    author = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    author_name = models.CharField(max_length=200)
    ended_by_name = models.CharField(max_length=200, default="", blank=True)  # who ended it before its time

    class Meta:
        ordering = ["-ends_at"]
        constraints = [models.CheckConstraint(name="silence_ends", condition=Q(ends_at__gte=models.F("starts_at")))]
        indexes = [models.Index(name="silence_end", fields=["ends_at"])]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk}: {self.reason}"


class AlertRule(models.Model):
    """A rule of the guide's alert configuration: condition, duration, severity, whom to notify."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100, unique=True)  # HighErrorRate
    condition = models.CharField(max_length=500)  # error_rate > 0.05
    for_seconds = models.PositiveIntegerField(default=0)
    severity = models.CharField(max_length=10, choices=AlertSeverity.choices)
    notify = ArrayField(models.CharField(max_length=20), default=list)  # kinds of channels
    # Slugs of the environments it watches; none means all.
    environments = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    summary = models.CharField(max_length=300, default="", blank=True)
    paused = models.BooleanField(default=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RuleState(models.Model):
    """How a rule stands in one environment; a row of its own, so that clocks share the work with SKIP LOCKED."""

    class State(models.TextChoices):
        FINE = "fine", "fine"
        PENDING = "pending", "pending"  # the condition holds, not yet for long enough
        FIRING = "firing", "firing"
        MISSING = "missing", "no data"  # never "fine"

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="states")
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="rule_states")
    state = models.CharField(max_length=10, choices=State.choices, default=State.MISSING)
    since = models.DateTimeField(db_default=Now())
    value = models.FloatField(null=True)
    words = models.CharField(max_length=300, default="", blank=True)
    evaluated_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(db_default=Now())
    # Since when the condition holds; a gap in the data shorter than the rule's `for` does not start it anew.
    held_since = models.DateTimeField(null=True)
    # Since when its alert is out, and that it has no data: data that go missing do not end an alert.
    told_since = models.DateTimeField(null=True)
    nodata_since = models.DateTimeField(null=True)
    recent = ArrayField(models.FloatField(null=True), default=list)  # the last values, oldest first

    class Meta:
        constraints = [models.UniqueConstraint(name="rule_state_once", fields=["rule", "environment"])]
        indexes = [models.Index(name="rule_state_due", fields=["due_at"])]

    def __str__(self) -> str:
        return f"{self.rule} in {self.environment}: {self.state}"


class IncidentRule(models.Model):
    """Which alerts become which incident. The first rule by position whose matchers all hold decides.

    matchers: as of a silence. group_by: labels; alerts with the same values of them belong to one incident.
    """

    slug = models.SlugField(max_length=60, unique=True)
    position = models.PositiveSmallIntegerField(default=0)
    matchers = models.JSONField(default=list)
    group_by = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    severity = models.CharField(max_length=2, default="", blank=True)  # P1 to P4; "" opens none
    title = models.CharField(max_length=200, default="", blank=True)  # "{alertname} in {environment}"

    class Meta:
        ordering = ["position", "slug"]

    def __str__(self) -> str:
        return self.slug


class DatabaseProbe(models.Model):
    """A database to count the connections of, for rules such as db_connections == 0."""

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, related_name="database_probe")
    reference = models.CharField(max_length=300)  # the secret reference of its URL
    interval_seconds = models.PositiveIntegerField(default=15)
    due_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"database of {self.environment}"


class DatabaseSample(models.Model):
    """What one look at a database found. Kept for a day."""

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="database_samples")
    at = models.DateTimeField(db_default=Now())
    connections = models.PositiveIntegerField(null=True)  # of others than this probe; None: it could not be asked
    most = models.PositiveIntegerField(null=True)  # max_connections
    words = models.CharField(max_length=300, default="", blank=True)

    class Meta:
        indexes = [models.Index(name="database_latest", fields=["environment", "-at"])]

    def __str__(self) -> str:
        return f"{self.environment}: {self.connections} at {self.at}"
