"""How releases reach environments: what is configured, and what canaries showed."""

from django.db import models
from django.db.models.functions import Now

from controlplane.operations.models import Operation
from environments.models import Environment, Service


class StrategyTable(models.Model):
    """What the configuration file says for an environment, or for one service in it. settings: as it stands there."""

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="strategies")
    service = models.ForeignKey(Service, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    settings = models.JSONField(default=dict)

    class Meta:
        ordering = ["environment_id", "service_id"]
        constraints = [
            models.UniqueConstraint(
                name="strategy_once", fields=["environment", "service"], nulls_distinct=False,
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.service.slug} in {self.environment.slug}" if self.service else self.environment.slug


class CanarySample(models.Model):
    """What both sides got since the sample before. counters: by instance, as they stood, for whoever goes on."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="canary_samples")
    at = models.DateTimeField(db_default=Now())
    canary_requests = models.BigIntegerField()
    canary_errors = models.BigIntegerField()
    canary_ms = models.FloatField(null=True)  # how long answers took; None where nobody said
    baseline_requests = models.BigIntegerField()
    baseline_errors = models.BigIntegerField()
    baseline_ms = models.FloatField(null=True)
    fresh = models.FloatField(default=1.0)  # how much of the latency is news, from 0 to 1
    counters = models.JSONField(default=dict)

    class Meta:
        ordering = ["pk"]
        # Read by the judging step and by the page of the canary, in order.
        indexes = [models.Index(name="canary_sample_order", fields=["operation", "id"])]

    def __str__(self) -> str:
        return f"{self.operation_id}: {self.canary_requests} against {self.baseline_requests}"


class CanaryVerdict(models.Model):
    """How the judging of a canary ended; once an operation."""

    class Outcome(models.TextChoices):
        GOOD = "good", "no worse"
        BAD = "bad", "worse"
        NONE = "none", "no verdict"

    operation = models.OneToOneField(
        Operation, on_delete=models.CASCADE, primary_key=True, related_name="canary_verdict"
    )
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    words = models.TextField()
    goes_on = models.BooleanField()  # whether the rest gets the release
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.operation_id}: {self.words}"
