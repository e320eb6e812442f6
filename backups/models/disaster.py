"""Recovery plans for pairs of environments, how ready they are, and what was done by them; the guide's "DR Plan"."""

from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from backups.models.catalog import Storage
from controlplane.operations.models import Operation
from environments.models import Environment


class RecoveryPlan(models.Model):
    """How one environment takes over from another, and back.

    The JSON columns are as their drivers want them (`backups/disaster/`): database and uploads name a "kind" each,
    traffic too; services are counts by slug; configuration is what the standby's variables become; checks are
    [{"name", "sql"}], each of which has to answer true; tell is a list of channels and contacts.
    """

    class Side(models.TextChoices):
        PRIMARY = "primary", "primary"
        STANDBY = "standby", "standby"

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    primary = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="recovery_plans")
    standby = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="stands_by_for")
    # Which side serves people; changed only by a failover or failback that succeeded.
    active = models.CharField(max_length=10, choices=Side.choices, default=Side.PRIMARY)
    # The guide: RTO 4 hours, RPO 1 hour.
    rto_seconds = models.PositiveIntegerField(default=4 * 3600)
    rpo_seconds = models.PositiveIntegerField(default=3600)
    database = models.JSONField(default=dict)
    traffic = models.JSONField(default=dict)
    uploads = models.JSONField(default=dict, blank=True)
    services = models.JSONField(default=dict)
    configuration = models.JSONField(default=dict, blank=True)
    checks = models.JSONField(default=list, blank=True)
    tell = models.JSONField(default=list, blank=True)
    approvals_required = models.PositiveSmallIntegerField(default=2)
    # The guide's monthly maintenance: "Disaster recovery drill".
    drill_schedule = models.CharField(max_length=100, default="0 9 1 * *", blank=True)  # cron text; "" for none
    drill_time_zone = models.CharField(max_length=60, default="UTC")
    # Where the recovery kit goes; its place should be in the standby's region.
    kit_storage = models.ForeignKey(Storage, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(name="recovery_plan_two_sides", condition=~models.Q(primary=models.F("standby"))),
            models.UniqueConstraint(name="recovery_plan_pair_once", fields=["primary", "standby"]),
        ]

    def __str__(self) -> str:
        return self.slug

    def get_absolute_url(self) -> str:
        """The plan's page."""
        return reverse("recovery-plan", args=[self.slug])

    @property
    def serving(self) -> Environment:
        """The environment that serves people now."""
        return self.primary if self.active == self.Side.PRIMARY else self.standby

    @property
    def waiting(self) -> Environment:
        """The other one."""
        return self.standby if self.active == self.Side.PRIMARY else self.primary

    @property
    def scopes(self) -> list[str]:
        """Both sides: whoever acts on the plan needs the role in both."""
        return sorted([self.primary.slug, self.standby.slug])


class RecoveryClock(models.Model):
    """When what the clock does for a plan is due next; claimed with SKIP LOCKED."""

    plan = models.OneToOneField(RecoveryPlan, on_delete=models.CASCADE, related_name="clock")
    readiness_due_at = models.DateTimeField(db_default=Now())
    kit_due_at = models.DateTimeField(db_default=Now())
    drill_due_at = models.DateTimeField(null=True)  # None: no schedule
    # The drill that was due then was not done; said once.
    overdue_said_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"clock of {self.plan}"


class Readiness(models.Model):
    """One look at whether the plan could be carried out now.

    checks: [{"key", "title", "outcome" (ready, not ready, unknown), "words"}]. restorable_to: as of when the newest
    thing is that could be restored. predicted_seconds: how long a failover would take, None where nothing is known;
    predicted: by step.
    """

    plan = models.ForeignKey(RecoveryPlan, on_delete=models.CASCADE, related_name="looks")
    at = models.DateTimeField(db_default=Now())
    ready = models.BooleanField()
    checks = models.JSONField(default=list)
    restorable_to = models.DateTimeField(null=True)
    predicted_seconds = models.FloatField(null=True)
    predicted = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(name="readiness_latest", fields=["plan", "-at"])]

    def __str__(self) -> str:
        return f"{self.plan}: {'ready' if self.ready else 'not ready'}"


class Recovery(models.Model):
    """A failover, a failback or a drill: what was decided when it was asked for, and what came of it.

    point: the restore point that was chosen (`disaster.base.Candidate`). assessment: {"probes": [...], "words": [...]}.
    faults: what a game day injects. predicted: {"seconds", "steps"} at the time. evidence: what the steps noted.
    """

    class Kind(models.TextChoices):
        FAILOVER = "failover", "failover"
        FAILBACK = "failback", "failback"
        DRILL = "drill", "drill"
        FENCE = "fence", "late fence"  # of a side that could not be reached when people left it

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, related_name="recovery")
    plan = models.ForeignKey(RecoveryPlan, on_delete=models.PROTECT, related_name="recoveries")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    source = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    target = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    incident = models.BigIntegerField(null=True)  # its number: a failover by break-glass
    by_schedule = models.BooleanField(default=False)
    assessment = models.JSONField(default=dict)
    point = models.JSONField(default=dict)
    faults = models.JSONField(default=list)
    predicted = models.JSONField(default=dict)
    # A person's word that the old primary may not be fenced, "" where nobody had to give it.
    accepted_risk = models.TextField(default="", blank=True)
    accepted_risk_by_name = models.CharField(max_length=200, default="", blank=True)
    # How it ended. rto_seconds: from the decision until people were served; rpo_seconds: what was lost, in time.
    fence_proven = models.BooleanField(null=True)
    recovered_at = models.DateTimeField(null=True)
    rto_seconds = models.FloatField(null=True)
    rpo_seconds = models.FloatField(null=True)
    evidence = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(name="recovery_of_plan", fields=["plan", "-operation"])]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.plan_id}"


class RecoveryKit(models.Model):
    """An exported bundle that carries the plan out without the control plane."""

    plan = models.ForeignKey(RecoveryPlan, on_delete=models.CASCADE, related_name="kits")
    made_at = models.DateTimeField(db_default=Now())
    key = models.CharField(max_length=300)  # in the plan's kit storage
    digest = models.CharField(max_length=64)  # SHA-256 of the bundle
    content_digest = models.CharField(max_length=64)  # of what it says: the same plan makes the same kit

    class Meta:
        indexes = [models.Index(name="recovery_kit_latest", fields=["plan", "-made_at"])]

    def __str__(self) -> str:
        return f"kit of {self.plan}, {self.made_at:%Y-%m-%d}"


class KitRun(models.Model):
    """What a kit's script did while the control plane was away, imported from its journal."""

    plan = models.ForeignKey(RecoveryPlan, on_delete=models.PROTECT, related_name="kit_runs")
    digest = models.CharField(max_length=64, unique=True)  # SHA-256 of the journal: imported once
    kit_digest = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20)
    by_name = models.CharField(max_length=200)
    journal = models.JSONField()
    imported_at = models.DateTimeField(db_default=Now())
    imported_by_name = models.CharField(max_length=200)

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.plan} by kit, {self.started_at:%Y-%m-%d %H:%M}"


class UploadsComparison(models.Model):
    """Both sides' uploads gone through side by side: by the clock to know, by an operation to mend.

    after: the last name that is done. totals: `uploads.comparing.Totals`. whole: it came to its end.
    """

    plan = models.ForeignKey(RecoveryPlan, on_delete=models.CASCADE, related_name="comparisons")
    source = models.CharField(max_length=60)  # the environment that served people
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    whole = models.BooleanField(default=False)
    after = models.TextField(default="", blank=True)
    totals = models.JSONField(default=dict)
    operation = models.BigIntegerField(null=True)  # its number, where one brought over what was missing

    class Meta:
        # Read by the page and by readiness: the last one to its end.
        indexes = [models.Index(name="uploads_comparison_latest", fields=["plan", "source", "-finished_at"])]

    def __str__(self) -> str:
        return f"uploads of {self.plan_id}"


class RegionLook(models.Model):
    """What the clock last heard of the other region, and when it asks again; claimed with SKIP LOCKED.

    facts: by section (`backups/disaster/regions.py`), each with its words where nothing answers.
    """

    plan = models.OneToOneField(RecoveryPlan, on_delete=models.CASCADE, related_name="region_look")
    due_at = models.DateTimeField(db_default=Now())
    at = models.DateTimeField(null=True)
    source = models.CharField(max_length=60, default="", blank=True)
    facts = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"both regions of {self.plan_id}"


class RegionMend(models.Model):
    """Somebody asked to compare both sides' uploads and to bring over what is missing."""

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, related_name="region_mend")
    plan = models.ForeignKey(RecoveryPlan, on_delete=models.PROTECT, related_name="mends")
    source = models.CharField(max_length=60)
    target = models.CharField(max_length=60)

    def __str__(self) -> str:
        return f"{self.source} to {self.target}"
