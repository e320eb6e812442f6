"""Where backups are kept, what is backed up when, and the catalog of what there is."""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse

from controlplane.operations.models import Operation
from environments.models import Environment


class Kind(models.TextChoices):
    """What a policy backs up; the sections of the guide's "Backup & Recovery"."""

    DATABASE = "database", "database dump"
    PITR = "pitr", "database, any moment"
    UPLOADS = "uploads", "uploads"
    CONFIGURATION = "configuration", "configuration"
    IMAGES = "images", "images"


class Storage(models.Model):
    """A place for backups: a bucket, or a folder. settings: as its kind in `backups/storage/` wants them."""

    slug = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=20)
    settings = models.JSONField(default=dict)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Policy(models.Model):
    """What is backed up of an environment, when, where to, and for how long it is kept."""

    class Proof(models.TextChoices):
        EACH = "each", "after each backup"
        SCHEDULE = "schedule", "by schedule"
        NEVER = "never", "never"

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="policies")
    slug = models.SlugField(max_length=60)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, related_name="policies")
    # What the engine of its kind needs to know: where the database is, which folder.
    settings = models.JSONField(default=dict, blank=True)
    paused = models.BooleanField(default=False)

    schedule = models.CharField(max_length=100)  # cron text
    time_zone = models.CharField(max_length=60, default="UTC")
    # Only `pitr`: every so many backups one is whole, the others hold what changed since the one before.
    full_every = models.PositiveSmallIntegerField(default=7)
    # The promises: no more may be lost, and it may take no longer, than this many seconds (the guide: 1 h and 4 h).
    rpo_seconds = models.PositiveIntegerField(default=3600)
    rto_seconds = models.PositiveIntegerField(default=4 * 3600)

    # The retention rules; see retention.Rules.
    keep_days = models.PositiveIntegerField(default=30)
    keep_last = models.PositiveIntegerField(default=0)
    keep_daily = models.PositiveIntegerField(default=0)
    keep_weekly = models.PositiveIntegerField(default=0)
    keep_monthly = models.PositiveIntegerField(default=0)
    keep_yearly = models.PositiveIntegerField(default=0)

    # Whom backups are encrypted to, an age recipient ("" for nobody), and the reference of the key that opens them.
    recipient = models.CharField(max_length=200, default="", blank=True)
    identity = models.CharField(max_length=300, default="", blank=True)

    # Restore tests: only they make a backup verified.
    proof = models.CharField(max_length=10, choices=Proof.choices, default=Proof.SCHEDULE)
    proof_schedule = models.CharField(max_length=100, default="0 4 * * 0", blank=True)  # the guide: weekly
    # [{"sql": "SELECT count(*) > 0 FROM users", "name": "there are users"}]: each must answer true.
    checks = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["environment__position", "kind", "slug"]
        constraints = [models.UniqueConstraint(name="policy_once", fields=["environment", "slug"])]

    def __str__(self) -> str:
        return f"{self.environment.slug}/{self.slug}"

    def get_absolute_url(self) -> str:
        """The policy's page."""
        return reverse("backup-policy", args=[self.environment.slug, self.slug])

    @property
    def lock_name(self) -> str:
        """Its backups, and the clean-up of them, never run at once."""
        return f"{self.environment.slug}/backups/{self.slug}"

    @property
    def prefix(self) -> str:
        """Where its objects are in the storage; ends with a slash."""
        return f"{self.environment.slug}/{self.slug}/"


class PolicyClock(models.Model):
    """When a policy is due next; a row of its own, so that many clocks share the work with SKIP LOCKED."""

    policy = models.OneToOneField(Policy, on_delete=models.CASCADE, related_name="clock")
    due_at = models.DateTimeField(null=True)  # None: never (paused, or a schedule that has no next time)
    proof_due_at = models.DateTimeField(null=True)
    cleanup_due_at = models.DateTimeField(db_default=Now())
    since = models.DateTimeField(db_default=Now())  # when its promises began to count

    def __str__(self) -> str:
        return f"{self.policy} at {self.due_at}"


class Backup(models.Model):
    """One entry of the catalog: a backup that is whole. What failed on the way is only in its operation."""

    class State(models.TextChoices):
        AVAILABLE = "available", "available"
        DAMAGED = "damaged", "damaged"  # the storage does not hold what was put there
        DELETED = "deleted", "deleted"  # retention let it go; the row stays as history

    class Verdict(models.TextChoices):
        NONE = "", "not tested"
        PROVEN = "proven", "verified by a restore"
        FAILED = "failed", "did not restore"

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="backups")
    policy = models.ForeignKey(Policy, null=True, on_delete=models.SET_NULL, related_name="backups")
    policy_slug = models.CharField(max_length=60)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    # "full", or "incremental": only together with its parent.
    level = models.CharField(max_length=12, default="full")
    parent = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="children")
    state = models.CharField(max_length=10, choices=State.choices, default=State.AVAILABLE)

    storage = models.ForeignKey(Storage, on_delete=models.PROTECT, related_name="backups")
    key = models.CharField(max_length=500)  # the folder of its objects in the storage, ends with a slash
    operation_id = models.BigIntegerField(null=True)  # None when it was read back from the storage alone
    as_of = models.DateTimeField()  # the moment whose state it holds
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    seconds = models.FloatField()
    size = models.BigIntegerField()  # bytes it needs in the storage; of uploads, also what others need too
    source_bytes = models.BigIntegerField()  # bytes read
    sha256 = models.CharField(max_length=64, default="", blank=True)  # of its main object as stored
    key_id = models.CharField(max_length=200, default="", blank=True)  # whom it is encrypted to
    server_version = models.CharField(max_length=40, default="", blank=True)
    tool_version = models.CharField(max_length=40, default="", blank=True)
    timeline = models.PositiveIntegerField(null=True)
    wal_start = models.CharField(max_length=20, default="", blank=True)
    wal_end = models.CharField(max_length=20, default="", blank=True)
    digest = models.CharField(max_length=80, default="", blank=True)  # of an image
    # The manifest as it stands beside the object; large, so lists leave it out.
    manifest = models.JSONField(default=dict)

    # Why it is kept, in words, as retention last said, and until when by age alone.
    expires_at = models.DateTimeField(null=True)
    kept_because = models.TextField(default="", blank=True)
    hold_reason = models.TextField(default="", blank=True)
    held_by_name = models.CharField(max_length=200, default="", blank=True)
    held_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    verdict = models.CharField(max_length=10, choices=Verdict.choices, default=Verdict.NONE, blank=True)
    verdict_words = models.TextField(default="", blank=True)
    tested_at = models.DateTimeField(null=True)
    tested_in = models.BigIntegerField(null=True)  # the operation's number
    restore_seconds = models.FloatField(null=True)  # how long the test's restore took: the predicted recovery time

    search = models.GeneratedField(
        expression=SearchVector(
            # Not the key: each is a word of its own, and those that begin alike are as many as there are rows.
            "policy_slug",
            "kind",
            "verdict_words",
            "hold_reason",
            "server_version",
            "digest",
            config="simple",
        ),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(name="backup_key_once", fields=["storage", "key"]),
            models.CheckConstraint(
                name="backup_state_known", condition=Q(state__in=["available", "damaged", "deleted"])
            ),
        ]
        indexes = [
            # Read by the overview and by retention: the latest of each policy.
            models.Index(name="backup_of_policy", fields=["policy", "state", "-as_of"]),
            models.Index(name="backup_proven", fields=["policy", "-as_of"], condition=Q(verdict="proven")),
            models.Index(name="backup_here", fields=["environment", "-id"]),
            models.Index(name="backup_location", fields=["key"], opclasses=["varchar_pattern_ops"]),
            GinIndex(name="backup_search", fields=["search"]),
        ]

    def __str__(self) -> str:
        return f"backup {self.pk} of {self.policy_slug}"

    def get_absolute_url(self) -> str:
        """The backup's page."""
        return reverse("backup", args=[self.pk])

    @property
    def is_whole(self) -> bool:
        """It is there, as far as anybody knows."""
        return self.state == self.State.AVAILABLE


class BackupRun(models.Model):
    """One policy's part in an operation that makes backups; a restore point has several."""

    class Cause(models.TextChoices):
        SCHEDULE = "schedule", "by schedule"
        PERSON = "person", "asked for"
        SAFETY = "safety", "before a restore"
        POINT = "point", "for a restore point"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="backup_runs")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="runs")
    cause = models.CharField(max_length=10, choices=Cause.choices)
    due_at = models.DateTimeField(null=True)
    backup = models.OneToOneField(Backup, null=True, on_delete=models.SET_NULL, related_name="run")

    class Meta:
        indexes = [models.Index(name="backup_run_latest", fields=["policy", "-id"])]
        constraints = [
            models.UniqueConstraint(name="backup_run_once", fields=["operation", "policy"]),
            # Two clocks, or one that asks twice, start a due run once.
            models.UniqueConstraint(name="backup_run_due_once", fields=["policy", "due_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.policy} in operation {self.operation_id}"


class Restore(models.Model):
    """What a restore, or a restore test, brings back, from when, and where to."""

    class Target(models.TextChoices):
        TEST = "test", "a scratch database, compared and removed"
        SCRATCH = "scratch", "a scratch database to look into"
        NEW = "new", "a new database"
        EXISTING = "existing", "over the existing database"
        FOLDER = "folder", "a folder"
        CONFIGURATION = "configuration", "the environment's configuration"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="restores")
    backup = models.ForeignKey(Backup, on_delete=models.PROTECT, related_name="restores")
    target = models.CharField(max_length=14, choices=Target.choices)
    # Any moment, for `pitr`; None for the moment of the backup itself.
    moment = models.DateTimeField(null=True)
    database = models.CharField(max_length=63, default="", blank=True)
    folder = models.CharField(max_length=500, default="", blank=True)
    schema = models.CharField(max_length=63, default="", blank=True)
    table = models.CharField(max_length=130, default="", blank=True)

    def __str__(self) -> str:
        return f"restore of {self.backup_id} in operation {self.operation_id}"


class ScratchDatabase(models.Model):
    """A restored database on a throw-away server of this control plane; removed for sure when its time is over."""

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, related_name="scratch")
    host = models.CharField(max_length=200)  # the machine whose worker made it
    folder = models.CharField(max_length=500)
    port = models.PositiveIntegerField()
    database = models.CharField(max_length=63)
    made_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"scratch of operation {self.operation_id}"


class Cleanup(models.Model):
    """Which backups an operation deletes. The catalog says of each what became of it."""

    operation = models.OneToOneField(Operation, on_delete=models.CASCADE, related_name="cleanup")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="cleanups")
    backups = models.JSONField(default=list)  # numbers

    def __str__(self) -> str:
        return f"clean-up of {self.policy} in operation {self.operation_id}"


class RestorePoint(models.Model):
    """Backups of one moment that belong together: database, uploads, configuration and image digest."""

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="restore_points")
    operation = models.OneToOneField(Operation, null=True, on_delete=models.SET_NULL, related_name="restore_point")
    name = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())
    made_by_name = models.CharField(max_length=200)
    backups = models.ManyToManyField(Backup, related_name="restore_points")
    # What ran: [{"service": "pitchey-backend", "version": "1.5.0", "digest": "sha256:…"}].
    software = models.JSONField(default=list)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """The restore point's page."""
        return reverse("restore-point", args=[self.pk])


class WalStream(models.Model):
    """The continuous WAL archive of one `pitr` policy, and who receives it now. Locations are text, as in SQL."""

    policy = models.OneToOneField(Policy, on_delete=models.CASCADE, related_name="wal")
    slot = models.CharField(max_length=63)
    # Of the cluster whose WAL this is: that of another one is never mixed in.
    system_identifier = models.CharField(max_length=20, default="", blank=True)
    # The receiver that holds it, until when, and the fence every write of that receiver names.
    receiver = models.CharField(max_length=200, default="", blank=True)
    lease_until = models.DateTimeField(null=True)
    fence = models.BigIntegerField(default=0)
    timeline = models.PositiveIntegerField(null=True)
    # The end of what is safely in the storage, and the database's time up to which that reaches.
    archived_lsn = models.CharField(max_length=20, default="", blank=True)
    archived_until = models.DateTimeField(null=True)
    server_lsn = models.CharField(max_length=20, default="", blank=True)
    lag_bytes = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(null=True)
    problem = models.TextField(default="", blank=True)  # why nothing arrives, in words

    def __str__(self) -> str:
        return f"WAL of {self.policy}"


class WalRange(models.Model):
    """Segments without a gap between them. A gap is where one range ends and a later one begins."""

    stream = models.ForeignKey(WalStream, on_delete=models.CASCADE, related_name="ranges")
    timeline = models.PositiveIntegerField()
    first = models.BigIntegerField()  # number of a segment: its position in the log divided by its size
    last = models.BigIntegerField()
    since = models.DateTimeField()  # the database's time when its first byte was written, at the latest
    until = models.DateTimeField()  # the database's time up to which everything is in the storage
    size = models.BigIntegerField(default=0)  # bytes in the storage

    class Meta:
        ordering = ["timeline", "first"]
        constraints = [models.CheckConstraint(name="wal_range_in_order", condition=Q(first__lte=models.F("last")))]
        indexes = [models.Index(name="wal_range_order", fields=["stream", "timeline", "last"])]

    def __str__(self) -> str:
        return f"{self.stream}: {self.first}–{self.last}"


class BackupAlert(models.Model):
    """Something about backups that a person has to know of; at most one open of a kind. `incidents` reads them."""

    class Kind(models.TextChoices):
        FAILED = "failed", "the last run failed"
        MISSED = "missed", "a run was missed"
        OVERRUN = "overrun", "still running when the next was due"
        STALE = "stale", "no success within its window"
        UNPROVEN = "unproven", "a restore test failed"
        WAL_GAP = "wal_gap", "a gap in the WAL"
        WAL_LAG = "wal_lag", "the WAL archive lags"

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="alerts")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    words = models.TextField()
    operation_id = models.BigIntegerField(null=True)
    raised_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-raised_at"]
        constraints = [
            models.UniqueConstraint(
                name="backup_alert_open_once", fields=["policy", "kind"], condition=Q(resolved_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.policy}: {self.get_kind_display()}"
