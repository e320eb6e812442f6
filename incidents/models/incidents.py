"""Incidents, their checklists, and the timeline that nobody can change quietly."""

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse

from controlplane.web.tones import Tone


class Severity(models.TextChoices):
    """P1 to P4, worst first (the guide's incident response, "Severity assessment")."""

    P1 = "P1", "P1 critical"
    P2 = "P2", "P2 high"
    P3 = "P3", "P3 moderate"
    P4 = "P4", "P4 low"


class Phase(models.TextChoices):
    """The five phases of the guide's incident response procedure, in their order."""

    DETECTION = "detection", "Detection"
    TRIAGE = "triage", "Triage"
    RESPONSE = "response", "Response"
    RESOLUTION = "resolution", "Resolution"
    POST_MORTEM = "post-mortem", "Post-mortem"


class Grade(models.TextChoices):
    """How large an impact is, or how urgent."""

    HIGH = "high", "high"
    MEDIUM = "medium", "medium"
    LOW = "low", "low"


class Incident(models.Model):
    """Something that people have to deal with, from the first alert to the lesson."""

    class State(models.TextChoices):
        OPEN = "open", "unacknowledged"
        ACKNOWLEDGED = "acknowledged", "acknowledged"
        RESOLVED = "resolved", "resolved"

    title = models.CharField(max_length=300)
    severity = models.CharField(max_length=2, choices=Severity.choices)
    impact = models.CharField(max_length=6, choices=Grade.choices, default=Grade.MEDIUM)
    urgency = models.CharField(max_length=6, choices=Grade.choices, default=Grade.MEDIUM)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)
    phase = models.CharField(max_length=12, choices=Phase.choices, default=Phase.DETECTION)
    # Slugs of the environments it affects; none: the whole installation.
    environments = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    # What alerts have in common that belong to it; "" when a person opened it.
    group_key = models.CharField(max_length=300, default="", blank=True)

    opened_at = models.DateTimeField(db_default=Now())
    opened_by_name = models.CharField(max_length=200)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by_name = models.CharField(max_length=200, default="", blank=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by_name = models.CharField(max_length=200, default="", blank=True)
    resolution = models.TextField(default="", blank=True)

    commander = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    communications = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    scribe = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")

    alert_count = models.PositiveIntegerField(default=0)
    last_alert_at = models.DateTimeField(null=True)
    firing_count = models.PositiveIntegerField(default=0)  # of its alerts, those that fire as far as it has heard
    # What its timeline does not say yet of alerts, so that a storm is a few entries; and when it last said any.
    unsaid = models.JSONField(default=dict, blank=True)
    said_at = models.DateTimeField(null=True)
    over_at = models.DateTimeField(null=True)  # since when all its alerts are over; None: some fire, or it has none
    # The escalation policy as it stood at the opening; later changes of the matrix do not change what runs.
    policy = models.JSONField(default=dict, blank=True)
    # When the first page was accepted by anybody's channel.
    notified_at = models.DateTimeField(null=True)

    # The timeline's head: the number and the hash of its last entry.
    last_seq = models.BigIntegerField(default=0)
    head_hash = models.CharField(max_length=64, default="", blank=True)
    search = models.GeneratedField(
        expression=SearchVector("title", "resolution", config="simple"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        constraints = [
            models.CheckConstraint(name="incident_severity_known", condition=Q(severity__in=Severity.values)),
            models.CheckConstraint(
                name="incident_state_has_its_times",
                condition=Q(state="open", resolved_at=None)
                | Q(state="acknowledged", acknowledged_at__isnull=False, resolved_at=None)
                | Q(state="resolved", resolved_at__isnull=False),
            ),
            # One incident for one cause, however many clocks handle its alerts at once.
            models.UniqueConstraint(
                name="incident_once_for_a_group",
                fields=["group_key"],
                condition=~Q(group_key="") & Q(state__in=["open", "acknowledged"]),
            ),
        ]
        indexes = [
            # Read by the navigation, the board and the list: only the few that are not over.
            models.Index(name="incident_unresolved", fields=["severity", "-id"], condition=~Q(state="resolved")),
            # Read by the clock: what timelines do not say yet, and what is over and waits for its end.
            models.Index(name="incident_unsaid", fields=["said_at"], condition=~Q(unsaid={})),
            models.Index(name="incident_over", fields=["over_at"], condition=Q(over_at__isnull=False, state="open")),
            # Read by the reports.
            models.Index(name="incident_opened", fields=["opened_at"]),
            # Read by the clock, to draft post-mortems of what has just ended.
            models.Index(name="incident_resolved", fields=["resolved_at"], condition=Q(state="resolved")),
            GinIndex(name="incident_search", fields=["search"]),
            GinIndex(name="incident_environments", fields=["environments"]),
        ]

    def __str__(self) -> str:
        return f"incident {self.pk}: {self.title}"

    def get_absolute_url(self) -> str:
        """The incident's page."""
        return reverse("incident", args=[self.pk])

    @property
    def tone(self) -> Tone:
        """Red while nobody has it, orange while somebody does, green when it is over."""
        return {"open": Tone.BAD, "acknowledged": Tone.WAIT, "resolved": Tone.OK}[self.state]

    @property
    def time_to_acknowledge(self) -> timedelta | None:
        """From the opening until somebody had it; None while, or if, nobody had."""
        return self.acknowledged_at - self.opened_at if self.acknowledged_at else None

    @property
    def time_to_resolve(self) -> timedelta | None:
        """From the opening until it was over; None while it is not."""
        return self.resolved_at - self.opened_at if self.resolved_at else None

    @property
    def is_resolved(self) -> bool:
        """It is over; only its post-mortem may still change."""
        return self.state == Incident.State.RESOLVED


class ChecklistItem(models.Model):
    """One line of the guide's procedure for one incident. A tick is an entry of the timeline."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="checklist")
    phase = models.CharField(max_length=12, choices=Phase.choices)
    position = models.PositiveSmallIntegerField()
    text = models.CharField(max_length=200)
    ticked_at = models.DateTimeField(null=True)
    ticked_by_name = models.CharField(max_length=200, default="", blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(name="checklist_once", fields=["incident", "position"])]

    def __str__(self) -> str:
        return f"{self.phase}: {self.text}"


class TimelineEntry(models.Model):
    """One thing that happened, hash-chained within its incident. The database refuses to change or remove it.

    An edit, a pin and a hide are entries of their own that name the one they are about (data: {"of": seq, …}).
    """

    class Kind(models.TextChoices):
        ALERT = "alert", "alert"
        STATE = "state", "state"  # opened, acknowledged, resolved, severity, phase, roles
        PAGE = "page", "page"  # levels, pages and their receipts
        OPERATION = "operation", "operation"
        CHANGE = "change", "change"  # configuration, locks
        CHECKLIST = "checklist", "checklist"
        NOTE = "note", "note"
        POST_MORTEM = "post-mortem", "post-mortem"
        EDIT = "edit", "edit"
        PIN = "pin", "pin"
        HIDE = "hide", "hide"

    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="timeline", db_index=False)
    seq = models.BigIntegerField()  # without gaps, from 1
    at = models.DateTimeField()  # when it happened; may be filled in later
    recorded_at = models.DateTimeField()  # by the database's clock
    kind = models.CharField(max_length=12, choices=Kind.choices)
    tone = models.CharField(max_length=4)
    text = models.TextField()
    actor = models.CharField(max_length=500)
    actor_id = models.BigIntegerField(null=True)
    data = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(name="timeline_seq_once", fields=["incident", "seq"])]
        indexes = [
            # Read by the page: in the order in which things happened.
            models.Index(name="timeline_at", fields=["incident", "at", "seq"]),
            # Read by the page's filters.
            models.Index(name="timeline_kind", fields=["incident", "kind", "at", "seq"]),
        ]

    def __str__(self) -> str:
        return f"{self.incident_id}#{self.seq} {self.text}"


class TimelineMark(models.Model):
    """How an entry is shown now, after edits, pins and hides; worked out from the entries, and changed with them."""

    entry = models.OneToOneField(TimelineEntry, on_delete=models.PROTECT, related_name="mark")
    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="marks")
    text = models.TextField(default="", blank=True)  # "" while it was never edited
    edits = models.PositiveSmallIntegerField(default=0)
    pinned = models.BooleanField(default=False)
    hidden = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"mark of {self.entry_id}"


class IncidentLock(models.Model):
    """The lock that a P1 put on an environment; break-glass opens it for a while, and the clock closes it again."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="locks")
    environment = models.ForeignKey("environments.Environment", on_delete=models.CASCADE, related_name="+")
    lock = models.ForeignKey("environments.EnvironmentLock", null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(name="incident_lock_once", fields=["incident", "environment"])]

    def __str__(self) -> str:
        return f"lock of incident {self.incident_id} on {self.environment}"


class BreakGlass(models.Model):
    """Two people who let a deployment through the lock of an incident: one asks with a reason, another confirms."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="break_glass")
    environment = models.ForeignKey("environments.Environment", on_delete=models.CASCADE, related_name="+")
    reason = models.TextField()
    asked_by = models.ForeignKey("accounts.Person", null=True, on_delete=models.SET_NULL, related_name="+")
    asked_by_name = models.CharField(max_length=200)
    asked_at = models.DateTimeField(db_default=Now())
    confirmed_by_name = models.CharField(max_length=200, default="", blank=True)
    confirmed_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)  # the lock is back, or the incident over, or it was never confirmed

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="break_glass_once", fields=["incident", "environment"], condition=Q(ended_at=None)
            )
        ]

    def __str__(self) -> str:
        return f"break-glass of {self.asked_by_name} for incident {self.incident_id}"


class NotedUpTo(models.Model):
    """How far the audit trail was read for what timelines say of operations and configuration (`incidents/noting.py`).

    The trail's numbers follow the order of its commits, so nothing comes later with a smaller one.
    """

    name = models.CharField(max_length=40, unique=True)
    entry = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.name}: {self.entry}"
