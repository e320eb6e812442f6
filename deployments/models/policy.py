"""What a deployment has to fulfil besides its approvals, and what shows that it does."""

from django.db import models
from django.db.models.functions import Now

from controlplane.operations.models import Operation
from deployments.models.releases import Release
from environments.models import Environment


class Policy(models.Model):
    """The rules of one environment. Whatever is 0 or empty is not asked for."""

    class Backup(models.TextChoices):
        REFUSE = "refuse", "has to be there"
        MAKE = "make", "is made first, if there is none"

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, related_name="policy")
    # How long the digest must have run in the environment before (`promoted_from`).
    soak_minutes = models.PositiveIntegerField(default=0)
    # Kinds of `ReleaseEvidence`.
    evidence = models.JSONField(default=list, blank=True)
    # The most findings a scan may have, by severity: {"critical": 0, "high": 5}.
    findings = models.JSONField(default=dict, blank=True)
    # Public keys (PEM), any of which may have signed the image.
    keys = models.JSONField(default=list, blank=True)
    # Severities ("P1") of which no incident may be open here.
    incidents = models.JSONField(default=list, blank=True)
    # A verified backup must be no older; 0: none is asked for.
    backup_minutes = models.PositiveIntegerField(default=0)
    backup = models.CharField(max_length=10, choices=Backup.choices, default=Backup.REFUSE)
    # {"zone": "Europe/Berlin", "days": ["mon", …], "from": "09:00", "to": "17:00"}
    hours = models.JSONField(default=dict, blank=True)
    # What somebody has to tick for each deployment, in words.
    checklist = models.JSONField(default=list, blank=True)
    # How many must approve, by the slug of an `ApproverGroup`: {"sre": 1}.
    approvers = models.JSONField(default=dict, blank=True)
    # Whether it has to be possible to go back.
    way_back = models.CharField(
        max_length=10, choices=[("", "need not"), ("possible", "has to be")], default="", blank=True
    )

    class Meta:
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return f"policy of {self.environment}"

    @property
    def approvals_required(self) -> int:
        """How many approve a change: as many as the environment wants, and no fewer than its groups together."""
        return int(max(self.environment.approvals_required, sum(self.approvers.values())))


class ApproverGroup(models.Model):
    """People of whom some have to approve. people: usernames; who is not there any more counts for nobody."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    people = models.JSONField(default=list)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class FreezeWindow(models.Model):
    """A time in which nothing is deployed: once, or again and again by an RRULE (RFC 5545) in a named time zone.

    starts, by the clock on the wall there; minutes: how long, by the same clock.
    """

    slug = models.SlugField(max_length=60, default="", blank=True)  # of the configuration file; "": made on a page
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="freezes")
    reason = models.CharField(max_length=300)
    zone = models.CharField(max_length=60, default="UTC")
    starts = models.CharField(max_length=16)  # "2026-12-20T18:00"
    minutes = models.PositiveIntegerField()
    rule = models.CharField(max_length=300, default="", blank=True)
    author_name = models.CharField(max_length=200)
    made_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)  # somebody took it away
    ended_by_name = models.CharField(max_length=200, default="", blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                name="freeze_slug_once", fields=["environment", "slug"],
                condition=models.Q(ended_at=None) & ~models.Q(slug=""),
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.environment}: {self.reason}"


class ReleaseEvidence(models.Model):
    """Something that was reported of a release: the result of a scan, a signature or an attestation of its image.

    content, for a scan: {"tool", "findings": {"critical": 0, …}, "url", "digest"}; for a signature, as cosign makes it:
    {"payload", "signature"} in base64; for an attestation the DSSE envelope.
    """

    class Kind(models.TextChoices):
        SCAN = "scan", "security scan"
        SIGNATURE = "signature", "signature"
        ATTESTATION = "attestation", "attestation"

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="evidence")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    content = models.JSONField()
    # SHA-256 of the canonical content: the same again is no second one.
    fingerprint = models.CharField(max_length=64)
    added_by_name = models.CharField(max_length=200)
    # When it was reported last: a scan that finds the same as an earlier one is the newest again.
    added_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(name="evidence_once", fields=["release", "kind", "fingerprint"])]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.release}"


class ChecklistTick(models.Model):
    """Somebody's word on one item of the checklist, for one operation."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="ticks")
    item = models.CharField(max_length=300)
    by_name = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(name="tick_once", fields=["operation", "item"])]

    def __str__(self) -> str:
        return f"{self.item}: {self.by_name}"
